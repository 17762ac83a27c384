use super::*;
use crate::source::postgres::catalog::{Generated, Keys, Kind, TableColumn};
use crate::source::postgres::types::ColumnType;
use crate::wire::pg::pgoutput::{Relation, RelationColumn};

fn column<'a>(name: &'a str, key: bool) -> RelationColumn<'a> {
    RelationColumn { key, name, type_oid: 23, type_modifier: -1 }
}

fn message<'a>(identity: Identity, columns: Vec<RelationColumn<'a>>) -> Relation<'a> {
    Relation { id: 7, namespace: "shop", name: "orders", identity, columns }
}

fn details(identity: Identity, primary_key: &[&str], identity_index: &[&str]) -> Details {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let column = |name: &str| TableColumn {
        number: 1,
        name: name.into(),
        type_oid: 23,
        typmod: -1,
        column_type: ColumnType { shape: Shape::Scalar(23), source_type: "integer".into() },
        nullable: name != "a",
        generated: if name == "g" { Generated::Stored } else { Generated::No },
    };
    Details {
        columns: ["a", "b", "c", "g"].map(column).into(),
        keys: Keys {
            identity,
            primary_key: names(primary_key),
            primary_key_deferrable: false,
            identity_index: names(identity_index),
        },
    }
}

fn table(identity: Identity, primary_key: &[&str], identity_index: &[&str]) -> Table {
    let Details { columns, keys } = details(identity, primary_key, identity_index);
    Table { oid: 7, schema: "shop".into(), name: "orders".into(), kind: Kind::Plain, columns, keys, storage: vec![] }
}

fn cache(exclude_columns: &[&str]) -> RelationCache {
    let selection = Selection::new(&crate::source::postgres::NAMES, &["shop.*"], &[], &[], exclude_columns).unwrap();
    RelationCache::new("db", selection, TypeCache::default())
}

#[test]
fn the_key_follows_the_identity() {
    let abc =
        |flags: [bool; 3]| [("a", flags[0]), ("b", flags[1]), ("c", flags[2])].map(|(n, k)| column(n, k)).to_vec();
    let key = |identity, flags, details: Option<&Details>| {
        StoredRelation::complete(&message(identity, abc(flags)), details, &TypeCache::default()).key
    };
    let (ba, all) = ([true, true, false], [true; 3]);
    let catalog = details(Identity::Default, &["b", "a"], &["c", "b"]);
    assert_eq!(key(Identity::Default, ba, Some(&catalog)), [1, 0]);
    assert_eq!(key(Identity::Default, ba, None), [0, 1]);
    assert_eq!(key(Identity::Default, [true, false, false], Some(&catalog)), [0], "the catalog has moved on");
    assert_eq!(key(Identity::Index, [false, true, true], Some(&catalog)), [2, 1]);
    assert_eq!(key(Identity::Full, all, Some(&catalog)), [1, 0]);
    assert_eq!(key(Identity::Full, all, Some(&details(Identity::Full, &[], &[]))), [0u16; 0]);
    assert_eq!(key(Identity::Full, all, None), [0u16; 0]);
    assert_eq!(key(Identity::Nothing, [false; 3], Some(&catalog)), [0u16; 0]);
}

#[test]
fn the_catalog_tells_what_the_message_will() {
    for (identity, flags) in [
        (Identity::Default, [true, false, false]),
        (Identity::Index, [false, true, true]),
        (Identity::Full, [true; 3]),
        (Identity::Nothing, [false; 3]),
    ] {
        let stored = StoredRelation::from_catalog(&table(identity, &["a"], &["c", "b"]), None);
        let said = message(identity, vec![column("a", flags[0]), column("b", flags[1]), column("c", flags[2])]);
        assert!(stored.same_shape(&said), "{identity:?}: {stored:?}");
    }
    let listed = StoredRelation::from_catalog(&table(Identity::Default, &["a"], &[]), Some(&["a".into(), "g".into()]));
    assert_eq!(listed.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "g"]);
}

#[test]
fn first_then_unchanged_then_changed() {
    let mut cache = cache(&[]);
    let first = cache.prime(&table(Identity::Default, &["a"], &[]), None).unwrap();
    let Seen::First { plan, entry } = first else { panic!("{first:?}") };
    assert_eq!((plan.schema.version, plan.schema.columns.len(), &*plan.schema.key), (1, 3, &[0u16][..]));
    assert!(!plan.schema.columns[0].nullable && plan.schema.columns[1].nullable);
    assert!(matches!(cache.prime(&table(Identity::Default, &["a"], &[]), None).unwrap(), Seen::Unchanged(_)));

    let said = message(Identity::Default, vec![column("a", true), column("b", false), column("c", false)]);
    assert!(matches!(cache.standing(8), Standing::Unknown));
    assert!(matches!(cache.announce(b"", &said), Standing::Known(_)));
    let wider = message(Identity::Default, [said.columns.clone(), vec![column("d", false)]].concat());
    assert!(matches!(cache.announce(b"", &wider), Standing::Unknown));
    assert!(matches!(cache.standing(7), Standing::Unknown), "the known shape is not that of the next row");
    assert!(matches!(cache.announce(b"", &Relation { namespace: "other", ..said.clone() }), Standing::Unwanted));
    assert!(matches!(cache.announce(b"", &said), Standing::Known(_)));

    let changed = cache.offer(StoredRelation::complete(&wider, None, &TypeCache::default())).unwrap();
    let Seen::Changed { previous, plan: wide, .. } = changed else { panic!("{changed:?}") };
    assert_eq!((previous.version, wide.schema.version, wide.schema.columns.len()), (1, 2, 4));
    assert!(Arc::ptr_eq(&previous, &plan.schema));

    // After a restart from the first entry, a replay meets the first shape without the catalog.
    let mut again = self::cache(&[]);
    again.restore(&State::from([(entry.key, entry.value.unwrap()), (b"snapshot".to_vec(), vec![1])])).unwrap();
    let Standing::Known(replayed) = again.announce(b"", &said) else { panic!("not recognised") };
    assert_eq!(replayed.schema.columns[0].source_type, plan.schema.columns[0].source_type);
}

#[test]
fn any_difference_in_the_message_is_seen() {
    let stored = StoredRelation::from_catalog(&table(Identity::Default, &["a"], &[]), None);
    let base = || message(Identity::Default, vec![column("a", true), column("b", false), column("c", false)]);
    assert!(stored.same_shape(&base()));
    let mutations: [fn(&mut Relation<'_>); 8] = [
        |r| r.name = "renamed",
        |r| r.namespace = "moved",
        |r| r.identity = Identity::Index,
        |r| r.columns[1].name = "x",
        |r| r.columns[1].type_oid = 20,
        |r| r.columns[1].type_modifier = 5,
        |r| r.columns[1].key = true,
        |r| r.columns.truncate(2),
    ];
    for (at, mutate) in mutations.into_iter().enumerate() {
        let mut relation = base();
        mutate(&mut relation);
        assert!(!stored.same_shape(&relation), "mutation {at}");
    }
}

#[test]
fn unwanted_columns_leave_the_schema_and_the_key_follows() {
    let stored = StoredRelation::from_catalog(&table(Identity::Default, &["c"], &[]), None);
    let plan = |exclude: &[&str]| {
        stored.plan("db", &Selection::new(&crate::source::postgres::NAMES, &[], &[], &[], exclude).unwrap())
    };
    let some = plan(&["shop.orders.a"]).unwrap();
    assert_eq!(some.schema.columns.iter().map(|c| &*c.name).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(&*some.schema.key, [1]);
    assert_eq!(some.tuple, TupleShape::new([(false, false), (false, true), (true, true)]));
    assert!(plan(&["shop.orders.c"]).unwrap_err().to_string().contains("part of its key"));
    assert!(plan(&["shop.orders.*"]).unwrap_err().to_string().contains("no column"));

    let full = StoredRelation::from_catalog(&table(Identity::Full, &["c"], &[]), None);
    let plan = full
        .plan("db", &Selection::new(&crate::source::postgres::NAMES, &[], &[], &[], &["shop.orders.c"]).unwrap())
        .unwrap();
    assert!(plan.schema.key.is_empty());
}

#[test]
fn stored_bytes_are_refused_unless_they_are_ours() {
    let stored = StoredRelation::from_catalog(&table(Identity::Index, &["a"], &["b"]), None);
    let bytes = stored.to_bytes().unwrap();
    assert_eq!(StoredRelation::from_bytes(&bytes).unwrap(), stored);
    let text = String::from_utf8(bytes).unwrap();
    for (from, to) in [("\"format\":1", "\"format\":2"), ("\"key\":[1]", "\"key\":[3]"), ("\"i\"", "\"q\""), ("}", "")]
    {
        assert!(text.contains(from));
        assert!(StoredRelation::from_bytes(text.replacen(from, to, 1).as_bytes()).is_err(), "{from} -> {to}");
    }
    assert!(StoredRelation::from_bytes(b"").is_err());
}

#[test]
fn a_shape_that_went_with_its_connection_is_told_again() {
    let mut cache = cache(&[]);
    assert!(matches!(cache.prime(&table(Identity::Default, &["a"], &[]), None).unwrap(), Seen::First { .. }));
    cache.settle();
    let other = table(Identity::Default, &["b"], &[]);
    let Seen::Changed { plan, entry, .. } = cache.prime(&other, None).unwrap() else { panic!("another key") };
    assert!(matches!(cache.prime(&other, None).unwrap(), Seen::Unchanged(_)));
    cache.roll_back();
    let Seen::Changed { plan: again, entry: stored, .. } = cache.prime(&other, None).unwrap() else {
        panic!("its entry was lost: it is to be stored again");
    };
    assert_eq!((plan.schema.version, entry), (again.schema.version, stored));
    cache.settle();
    cache.roll_back();
    assert!(matches!(cache.prime(&other, None).unwrap(), Seen::Unchanged(_)));
}
