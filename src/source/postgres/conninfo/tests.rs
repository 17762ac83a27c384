use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::error::Class;

#[derive(Default)]
struct Fake(HashMap<String, String>);

impl Fake {
    fn new(vars: &[(&str, &str)]) -> Fake {
        Fake(vars.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }
}

impl Environment for Fake {
    fn var(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
    fn os_user(&self) -> Option<String> {
        Some("osuser".into())
    }
}

fn parse(text: &str) -> ConnInfo {
    ConnInfo::parse(text, &Fake::default()).unwrap()
}

fn refused(text: &str) -> String {
    let error = ConnInfo::parse(text, &Fake::default()).unwrap_err();
    assert_eq!(error.class(), Class::Config);
    format!("{error:?}")
}

fn tcp(name: &str) -> Host {
    Host::Tcp { name: name.into(), addr: None }
}

fn password(info: &ConnInfo) -> Option<&str> {
    info.hosts[0].password.as_ref().map(|password| password.expose_secret())
}

#[test]
fn a_url_with_everything() {
    let info = parse(
        "postgresql://us%40er:p%2Fa%3Ass@db.example:5433/my%20db?sslmode=require&application_name=a%26b\
         &options=-c%20geqo%3Doff&connect_timeout=7&target_session_attrs=read-write&channel_binding=require\
         &keepalives=0&load_balance_hosts=random&sslsni=0",
    );
    assert_eq!((info.user.as_str(), info.database.as_str()), ("us@er", "my db"));
    assert_eq!(password(&info), Some("p/a:ss"));
    assert_eq!((&info.hosts[0].host, info.hosts[0].port), (&tcp("db.example"), 5433));
    assert_eq!(info.options.as_deref(), Some("-c geqo=off"));
    assert_eq!(info.application_name, "a&b");
    assert_eq!(info.connect_timeout, Some(Duration::from_secs(7)));
    assert_eq!(info.session, SessionAttrs::ReadWrite);
    assert_eq!(info.channel_binding, ChannelBinding::Require);
    assert_eq!((info.tls.mode, info.tls.sni), (SslMode::Require, false));
    assert!(!info.keepalive.enabled && info.load_balance);
    assert_eq!(info.to_string(), "postgres://us@er@db.example:5433/my db");
}

#[test]
fn keywords_with_everything() {
    let info = parse(
        r"host=db.example port = 5433 user='o''x' password = 'it\'s \\ ''dbname=my\ db sslmode=disable"
            .replace("'o''x'", "ox")
            .replace("''dbname", "'\tdbname")
            .as_str(),
    );
    assert_eq!((info.user.as_str(), info.database.as_str()), ("ox", "my db"));
    assert_eq!(password(&info), Some(r"it's \ "));
    assert_eq!((&info.hosts[0].host, info.hosts[0].port), (&tcp("db.example"), 5433));
    assert_eq!(info.tls.mode, SslMode::Disable);
}

#[test]
fn several_hosts() {
    let info = parse("postgres://u@h1:5432,[2001:db8::1]:5433,h3/db");
    let hosts: Vec<String> = info.hosts.iter().map(Endpoint::to_string).collect();
    assert_eq!(hosts, ["h1:5432", "[2001:db8::1]:5433", "h3:5432"]);
    assert_eq!(info.hosts[1].host, tcp("2001:db8::1"));

    let info = parse("host=h1,h2 port=6000 user=u");
    assert_eq!(info.hosts.iter().map(|host| host.port).collect::<Vec<_>>(), [6000, 6000]);
    let info = parse("host=h1,h2 hostaddr=,127.0.0.1 port=,6001 user=u");
    assert_eq!(info.hosts.iter().map(|host| host.port).collect::<Vec<_>>(), [5432, 6001]);
    assert_eq!(info.hosts[1].host, Host::Tcp { name: "h2".into(), addr: Some([127, 0, 0, 1].into()) });
    assert!(refused("host=h1,h2 port=1,2,3").contains("2 hosts, but 3 ports"));
    assert!(refused("host=h1 hostaddr=1.1.1.1,2.2.2.2").contains("hostaddrs"));
}

#[test]
fn unix_sockets() {
    for text in ["postgres://%2Frun%2Fpg:5433/db", "postgres:///db?host=/run/pg&port=5433", "host=/run/pg port=5433"] {
        let info = parse(text);
        assert_eq!(info.hosts[0].host, Host::Unix("/run/pg".into()), "{text}");
        assert_eq!(info.hosts[0].to_string(), "/run/pg/.s.PGSQL.5433");
    }
    refused("host=@abstract");
}

#[test]
fn defaults() {
    let info = parse("postgres://h");
    assert_eq!((info.user.as_str(), info.database.as_str()), ("osuser", "osuser"));
    assert_eq!((info.tls.mode, info.channel_binding), (SslMode::Prefer, ChannelBinding::Prefer));
    assert_eq!(info.application_name, "walbrook");
    assert_eq!(info.connect_timeout, Some(Duration::from_secs(30)));
    assert!(info.hosts[0].password.is_none() && info.tls.root.is_none() && info.tls.client.is_none());
    assert_eq!(parse("host=h connect_timeout=0").connect_timeout, None);
    assert_eq!(parse("host=h connect_timeout=1").connect_timeout, Some(Duration::from_secs(2)));
    assert_eq!(parse("postgres://h?ssl=true").tls.mode, SslMode::Require);
}

#[test]
fn the_environment_fills_what_is_not_given() {
    let environment = Fake::new(&[
        ("PGHOST", "envhost"),
        ("PGPORT", "6543"),
        ("PGUSER", "envuser"),
        ("PGDATABASE", "envdb"),
        ("PGPASSWORD", "envsecret"),
        ("PGSSLMODE", "require"),
        ("PGAPPNAME", "envapp"),
        ("PGTARGETSESSIONATTRS", "primary"),
        ("PGCHANNELBINDING", "disable"),
        ("PGCONNECT_TIMEOUT", "9"),
        ("PGOPTIONS", "-c work_mem=1MB"),
    ]);
    let info = ConnInfo::parse("", &environment).unwrap();
    assert_eq!(info.to_string(), "postgres://envuser@envhost:6543/envdb");
    assert_eq!(password(&info), Some("envsecret"));
    assert_eq!((info.tls.mode, info.session), (SslMode::Require, SessionAttrs::Primary));
    assert_eq!((info.channel_binding, info.application_name.as_str()), (ChannelBinding::Disable, "envapp"));
    assert_eq!(info.connect_timeout, Some(Duration::from_secs(9)));

    let info = ConnInfo::parse("postgres://me:mine@here/", &environment).unwrap();
    assert_eq!(info.to_string(), "postgres://me@here:6543/envdb");
    assert_eq!(password(&info), Some("mine"));
    // Given but empty is the default, not the variable.
    assert_eq!(ConnInfo::parse("host=h sslmode=''", &environment).unwrap().tls.mode, SslMode::Prefer);
    let error = ConnInfo::parse("host=h", &Fake::new(&[("PGREQUIREAUTH", "scram-sha-256")])).unwrap_err();
    assert!(error.to_string().contains("PGREQUIREAUTH"));
}

#[cfg(unix)]
#[test]
fn the_password_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".pgpass");
    std::fs::write(&path, "h1:*:db:u:one\nh2:5433:*:*:two\n/run/pg:*:*:*:three\nlocalhost:*:*:*:four\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let home = Fake::new(&[("HOME", directory.path().to_str().unwrap())]);
    let passwords = |text: &str, environment: &Fake| -> Vec<Option<String>> {
        let info = ConnInfo::parse(text, environment).unwrap();
        info.hosts.iter().map(|host| host.password.as_ref().map(|p| p.expose_secret().to_owned())).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(passwords("postgres://u@h1,h2:5433,h3/db", &home), [some("one"), some("two"), None]);
    assert_eq!(passwords("postgres://u:own@h1/db", &home), [some("own")]);
    assert_eq!(passwords("host=/run/pg user=u", &home), [some("three")]);
    assert_eq!(passwords("host=/var/run/postgresql user=u", &home), [some("four")]);
    let named = Fake::new(&[("PGPASSFILE", path.to_str().unwrap())]);
    assert_eq!(passwords("postgres://u@h1/db", &named), [some("one")]);

    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    assert_eq!(passwords("postgres://u@h1/db", &home), [None]);
}

#[test]
fn files_of_libpq_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().join(".postgresql");
    std::fs::create_dir(&files).unwrap();
    let home = Fake::new(&[("HOME", directory.path().to_str().unwrap())]);
    std::fs::write(files.join("root.crt"), "").unwrap();
    std::fs::write(files.join("postgresql.crt"), "").unwrap();
    assert!(ConnInfo::parse("host=h", &home).unwrap_err().to_string().contains("no private key"));
    std::fs::write(files.join("postgresql.key"), "").unwrap();
    let tls = ConnInfo::parse("host=h sslmode=verify-full", &home).unwrap().tls;
    assert_eq!(tls.root, Some(RootCert::File(files.join("root.crt"))));
    assert_eq!(tls.client.unwrap().key, files.join("postgresql.key"));
}

#[test]
fn tls_settings_that_contradict_each_other() {
    assert!(refused("host=h sslmode=verify-full").contains("no root certificate"));
    assert!(refused("host=h sslmode=require sslrootcert=system").contains("weaker than verify-full"));
    assert!(refused("host=h sslnegotiation=direct").contains("weaker than require"));
    assert!(refused("host=h sslmode=disable channel_binding=require").contains("no channel"));
    let tls = parse("host=h sslrootcert=system").tls;
    assert_eq!((tls.mode, tls.root), (SslMode::VerifyFull, Some(RootCert::System)));
    assert!(parse("host=h sslmode=require sslnegotiation=direct").tls.direct);
}

#[test]
fn mistakes_are_told_with_a_remedy() {
    assert!(refused("host=h sslmod=require").contains("did you mean sslmode?"));
    assert!(refused("postgres://h?aplication_name=x").contains("did you mean application_name?"));
    assert!(refused("host=h colour=blue").contains("the keys are host"));
    assert!(refused("host=h sslcrl=x").contains("not supported"));
    assert!(refused("host=h sslmode=on").contains("verify-full"));
    assert!(refused("host=h port=0").contains("65535"));
    assert!(refused("host=h port=70000").contains("65535"));
    assert!(refused("host=h connect_timeout=soon").contains("whole number"));
    assert!(refused("host=h gssencmode=require").contains("GSSAPI"));
    assert!(refused("host=h client_encoding=LATIN1").contains("UTF8"));
    assert!(refused("mydb").contains("missing \"=\""));
    assert!(refused("host=h my db=x").contains("missing \"=\""));
    assert!(refused("mysql://h/db").contains("unknown scheme"));
    assert!(refused("postgres://[::1/db").contains("bracket"));
    assert!(refused("postgres://h/100%/x").contains("%25"));
    assert!(refused("postgres://h/%00").contains("zero byte"));
    assert!(refused("host='h").contains("no end"));
}

#[test]
fn a_password_is_nowhere() {
    let info = parse("postgres://u:tops%65cret@h/db");
    assert_eq!(password(&info), Some("topsecret"));
    assert!(!format!("{info:?} {info}").contains("topsecret"));
    for text in
        ["postgres://u:topsecret@h:x/db", "password=topsecret sslmod=x", "password='topsecret", "password=topsecret x"]
    {
        assert!(!refused(text).contains("topsecret"), "{text}");
    }
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

proptest! {
    #[test]
    fn never_panics(text in ".{0,80}") {
        let _ = ConnInfo::parse(&text, &Fake::default());
        let _ = ConnInfo::parse(&format!("postgres://{text}"), &Fake::default());
    }

    /// Any user, password and database survive both forms.
    #[test]
    fn both_forms_say_the_same(user in "[^\\x00]{1,12}", secret in "[^\\x00]{1,12}", db in "[^\\x00]{1,12}") {
        let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let url = parse(&format!("postgres://{}:{}@h/{}", encode(&user), encode(&secret), encode(&db)));
        let keywords = parse(&format!("host=h user={} password={} dbname={}", quoted(&user), quoted(&secret), quoted(&db)));
        for info in [url, keywords] {
            prop_assert_eq!(&info.user, &user);
            prop_assert_eq!(password(&info), Some(secret.as_str()));
            prop_assert_eq!(&info.database, &db);
        }
    }
}
