use std::collections::HashMap;

use super::*;
use crate::error::Error;
use proptest::prelude::*;
use secrecy::ExposeSecret;

#[derive(Default)]
struct Variables(HashMap<&'static str, &'static str>);

impl Environment for Variables {
    fn var(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|value| (*value).to_owned())
    }
    fn os_user(&self) -> Option<String> {
        Some("me".into())
    }
}

fn parse(text: &str) -> Result<ConnInfo> {
    ConnInfo::parse(text, &Variables::default())
}

fn refused(text: &str) -> (Error, String) {
    let error = parse(text).expect_err(text);
    let told = format!("{error:?}");
    assert_eq!(error.class(), crate::error::Class::Config, "{told}");
    (error, told)
}

fn password(info: &ConnInfo) -> Option<&str> {
    info.password.as_ref().map(ExposeSecret::expose_secret)
}

#[test]
fn a_url_says_everything() {
    let info = parse(
        "mysql://us%65r:p%40ss@db1:3307,[::1]:3308,db3/shop?ssl-mode=required&connect_timeout=5&server-id=77&semi-sync=on",
    )
    .unwrap();
    assert_eq!(info.to_string(), "mysql://user@db1:3307,[::1]:3308,db3:3306/shop");
    assert_eq!((password(&info), info.database.as_deref()), (Some("p@ss"), Some("shop")));
    assert_eq!((info.tls.mode, info.connect_timeout), (SslMode::Required, Some(Duration::from_secs(5))));
    assert_eq!((info.server_id, info.semi_sync), (Some(77), true));
    assert!(!format!("{info:?} {info}").contains("p@ss"));

    let info = parse("MariaDB://localhost").unwrap();
    assert_eq!((info.user.as_str(), info.tls.mode, password(&info)), ("me", SslMode::Preferred, None));
    assert_eq!((info.server_id, &info.server_key), (None, &ServerKey::Ask));

    let info = parse("mysql://cdc@localhost/?socket=/run/my.sock").unwrap();
    assert_eq!(info.hosts[0].host, Host::Unix("/run/my.sock".into()));
    assert_eq!(info.to_string(), "mysql://cdc@/run/my.sock");
    let info = parse("mysql://cdc@%2Frun%2Fmy.sock/").unwrap();
    assert_eq!(info.hosts[0].host, Host::Unix("/run/my.sock".into()));
}

#[test]
fn the_environment_comes_after_the_url() {
    let environment =
        Variables(HashMap::from([("MYSQL_HOST", "db"), ("MYSQL_TCP_PORT", "3310"), ("MYSQL_PWD", "hidden")]));
    let info = ConnInfo::parse("mysql://", &environment).unwrap();
    assert_eq!((info.to_string().as_str(), password(&info)), ("mysql://me@db:3310", Some("hidden")));
    let info = ConnInfo::parse("mysql://u:given@other:1/", &environment).unwrap();
    assert_eq!((info.to_string().as_str(), password(&info)), ("mysql://u@other:1", Some("given")));
    let info = ConnInfo::parse("mysql://u@other/", &environment).unwrap();
    assert_eq!((info.to_string().as_str(), password(&info)), ("mysql://u@other:3310", Some("hidden")));
    // A password that is empty is one.
    let info = ConnInfo::parse("mysql://u:@other/", &environment).unwrap();
    assert_eq!(password(&info), Some(""));
}

#[test]
fn tls_options() {
    let info = parse("mysql://h/?ssl-ca=/ca.pem").unwrap();
    assert_eq!(info.tls.mode, SslMode::VerifyCa, "a root is there to verify with");
    let info = parse("mysql://h/?ssl-ca=/ca.pem&ssl-mode=REQUIRED").unwrap();
    assert_eq!(info.tls.plan().verify, Verify::Chain);
    let info = parse("mysql://h/?ssl-ca=system&ssl-mode=VERIFY_IDENTITY&ssl-cert=/c&ssl-key=/k").unwrap();
    assert_eq!(info.tls.plan().verify, Verify::ChainAndName);
    assert_eq!(info.tls.client, Some(ClientCert { cert: "/c".into(), key: "/k".into() }));
    assert_eq!(parse("mysql://h").unwrap().tls.plan().verify, Verify::Nothing);
    for text in [
        "mysql://h/?ssl-mode=VERIFY_CA",
        "mysql://h/?ssl-mode=VERIFY_IDENTITY",
        "mysql://h/?ssl-mode=verify-full",
        "mysql://h/?ssl-ca=system",
        "mysql://h/?ssl-cert=/c",
        "mysql://h/?ssl-key=/k",
        "mysql://h/?tls-version=TLSv1.1",
    ] {
        refused(text);
    }
}

#[test]
fn keys_of_the_server() {
    let key = |text| parse(text).unwrap().server_key;
    assert_eq!(key("mysql://h/?get-server-public-key=0"), ServerKey::Refuse);
    assert_eq!(key("mysql://h/?get-server-public-key"), ServerKey::Ask);
    assert_eq!(key("mysql://h/?server-public-key-path=/k.pem"), ServerKey::File("/k.pem".into()));
}

#[test]
fn what_is_not_known_is_refused_with_a_suggestion() {
    for (text, suggestion) in [
        ("mysql://u:hidden@h/?ssl-mod=REQUIRED", "did you mean ssl-mode?"),
        ("mysql://u:hidden@h/?sslmode=REQUIRED", "did you mean ssl-mode?"),
        ("mysql://u:hidden@h/?serverid=1", "did you mean server-id?"),
        ("mysql://u:hidden@h/?charset=utf8", "the options are host, port"),
        ("mysql://u:hidden@h/?ssl=true", "use ssl-mode"),
        ("mysql://u:hidden@h/?compress", "leave compress out"),
        ("mysql://u:hidden@h/?semi-sync=maybe", "semi-sync"),
        ("mysql://u:hidden@h:0/", "port"),
        ("mysql://u:hidden@h:x/", "port"),
        ("mysql://u:hidden@h/?server-id=0", "server-id"),
        ("mysql://u:hidden@h/?server-id=4294967296", "server-id"),
        ("mysql://u:hidden@h/?connect-timeout=-1", "connect-timeout"),
        ("mysql://u:hidden@h/?socket=/s", "socket"),
        ("mysql://u:hidden@h/a/b", "%2F"),
        ("mysql://u:hid@den@h/", "%40"),
        ("mysql://u:hidden%4@h/", "%25"),
        ("postgres://u:hidden@h/", "mysql://"),
        ("u:hidden@h", "mysql://"),
    ] {
        let (_, told) = refused(text);
        assert!(told.contains(suggestion), "{text}: {told}");
        assert!(!told.contains("hid"), "{text}: {told}");
    }
}

proptest! {
    #[test]
    fn never_panics(text in "(mysql://|mariadb://)?[a-z0-9:@/?&=%,\\[\\]é-]{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn credentials_come_through(user in "[^\\x00]{1,12}", secret in "[^\\x00]{1,12}") {
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let info = parse(&format!("mysql://{}:{}@h/", encode(&user), encode(&secret))).unwrap();
        prop_assert_eq!((info.user.as_str(), password(&info)), (user.as_str(), Some(secret.as_str())));
    }
}
