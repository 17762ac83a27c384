use std::collections::{HashMap, HashSet};

use walbrook::record::{DataType, Identity};
use walbrook::source::postgres::catalog::Generated;
use walbrook::source::postgres::publication::Publication;
use walbrook::source::postgres::relation::{RelationCache, Seen, Standing, StoredRelation};
use walbrook::source::postgres::types::{self, ColumnType, Shape, TypeCache};
use walbrook::source::tables::Selection;
use walbrook::wire::pg::pgoutput::{self, Message};

use super::{connect, load, messages, publish, slot, table};
use crate::support::Server;

/// Everything that makes a Relation message: identifiers, identities, generated columns, partitions, types.
const TABLES: &str = r#"
create schema "we.ird ""schema""";
create table "we.ird ""schema"""."tab,le.""x""" ("a.b" int primary key, "c""d" text, "übergrößenträger🐘" int, " " int);
create table public.äääääääääääääääääääääääääääääää ("select" int primary key);
create type public.mood as enum ('sad', 'ok', 'it''s "fine"');
create domain public.dmood as public.mood;
create domain public.dints as int[] check (cardinality(value) < 9);
create type public.pair as (a int, b text);
create extension hstore;
create extension citext;
create table types (id bigint primary key, n numeric(12,2), v varchar(7), c char(3), bare bpchar, t3 timestamp(3), tz timestamptz,
    i interval day to second(2), b bit(3), vb bit varying(9), m mood, ms mood[], dm dmood, dms dmood[], di dints, dis dints[],
    p pair, ps pair[], h hstore, ct citext, cts citext[], bx box[], iv int2vector, pt point, r int4range, rs int4range[],
    nn name, ch "char", js jsonb[], num numeric(3,1)[], x xml, o oid, reg regclass);
create table no_key (a int, b int);
create table full_key (a int, b int primary key, c int);
alter table full_key replica identity full;
create table by_index (a int, b int not null, c int not null);
create unique index by_index_cb on by_index (c, b) include (a);
alter table by_index replica identity using index by_index_cb;
create table nothing (a int primary key);
alter table nothing replica identity nothing;
create table deferred (a int primary key deferrable initially deferred, b int);
create table swapped (a int, b int, c int, primary key (c, a));
create table generated (a int primary key, g int generated always as (a * 2) stored, b int);
create table dropped (a int primary key, gone int, b int);
alter table dropped drop column gone;
create table parts (id int, at date, primary key (id, at)) partition by range (at);
create table parts_a (at date not null, id int not null);
alter table parts attach partition parts_a for values from ('2020-01-01') to ('2021-01-01');
create table parts_b partition of parts for values from ('2021-01-01') to ('2022-01-01') partition by list (id);
create table parts_b1 partition of parts_b default;
create table base (a int primary key);
create table child (b int) inherits (base);
create view a_view as select 1 as x;
create unlogged table fleeting (a int);
create table no_columns ();
"#;

const ROWS: &str = r#"
insert into "we.ird ""schema"""."tab,le.""x""" values (1);
insert into äääääääääääääääääääääääääääääää values (1);
insert into types (id) values (1);
insert into no_key values (1);
insert into full_key values (1, 1);
insert into by_index values (1, 1, 1);
insert into nothing values (1);
insert into deferred values (1);
insert into swapped values (1, 1, 1);
insert into generated (a) values (1);
insert into dropped values (1);
insert into parts values (1, '2020-05-05'), (2, '2021-05-05');
insert into base values (1);
insert into child values (1, 1);
insert into no_columns default values;
"#;

#[tokio::test]
async fn the_catalog_says_what_the_stream_will_say() {
    for server in Server::all() {
        let database = server.database("shapes");
        database.psql(TABLES);
        let sql = connect(&database.url()).await;
        let catalog = load(&sql, "").await.unwrap();
        let names: Vec<&str> = catalog.tables.iter().map(|table| table.name.as_str()).collect();
        assert!(names.contains(&"parts") && !names.contains(&"parts_a") && !names.contains(&"parts_b"), "{names:?}");
        assert!(!names.contains(&"a_view") && !names.contains(&"fleeting"));
        assert!(catalog.warnings.iter().any(|warning| warning.contains("fleeting")), "{:?}", catalog.warnings);

        let prepared = publish(&sql, "odd \"publication\"", &catalog).await.unwrap();
        assert!(prepared.created && prepared.added.is_empty());
        let slot = slot(&database);
        database.psql(ROWS);

        let published = prepared.publication.by_oid();
        let selection = Selection::default();
        let mut cache = RelationCache::new(database.name(), selection.clone(), TypeCache::default());
        let mut plans = HashMap::new();
        for table in &catalog.tables {
            let seen = cache.prime(table, published[&table.oid].columns.as_deref()).unwrap();
            let Seen::First { plan, entry } = seen else { panic!("{table}: {seen:?}") };
            plans.insert(table.oid, plan);
            let stored = StoredRelation::from_bytes(&entry.value.unwrap()).unwrap();
            assert_eq!(entry.key, StoredRelation::state_key(table.oid));
            assert!(stored.plan(database.name(), &selection).is_ok());
        }
        let mut told = HashSet::new();
        for message in messages(&sql, &slot, "odd \"publication\"").await {
            if let Message::Relation(relation) = pgoutput::parse(&message).unwrap() {
                let standing = cache.announce(&message, &relation);
                if ["parts_a", "parts_b1"].contains(&relation.name) {
                    // Announced, but its rows come under the root.
                    assert!(matches!(standing, Standing::Unknown));
                    continue;
                }
                assert!(matches!(standing, Standing::Known(_)), "{} {relation:?}", server.version().number());

                // A stream without a snapshot learns the same from message and catalog together.
                let mut fresh = RelationCache::new(database.name(), selection.clone(), TypeCache::default());
                assert!(matches!(fresh.announce(&message, &relation), Standing::Unknown));
                let learnt = fresh.learn(sql.client(), relation.id).await.unwrap();
                let Seen::First { plan, .. } = learnt else { panic!("{learnt:?}") };
                let (primed, learnt) = (&plans[&relation.id], &plan);
                assert_eq!(primed.tuple, learnt.tuple);
                assert_eq!(format!("{:?}", primed.schema), format!("{:?}", learnt.schema));
                told.insert(relation.id);
            }
        }
        assert_eq!(told.len(), catalog.tables.len());
    }
}

#[tokio::test]
async fn keys_partitions_and_columns() {
    for server in Server::all() {
        let database = server.database("keys");
        database.psql(TABLES);
        database
            .psql("insert into parts select 1, '2020-01-01'::date + n from generate_series(0, 300) n; analyze parts");
        let sql = connect(&database.url()).await;
        let catalog = load(&sql, "").await.unwrap();
        let key = |name: &str| table(&catalog, name).keys.key().to_vec();
        assert_eq!(key("swapped"), ["c", "a"]);
        assert_eq!(key("by_index"), ["c", "b"]);
        assert_eq!(key("full_key"), ["b"]);
        for none in ["no_key", "nothing", "deferred"] {
            assert!(key(none).is_empty(), "{none}");
        }
        let parts = table(&catalog, "parts");
        assert_eq!(parts.storage.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["parts_a", "parts_b1"]);
        assert_eq!(parts.storage[0].rows, Some(301));
        assert!(parts.storage[0].pages > 0 && parts.storage[0].filenode > 0 && parts.bytes() > 0);
        assert_eq!(parts.keys.identity, Identity::Default);
        assert_eq!(table(&catalog, "base").storage[0].sql_from(), "ONLY \"public\".\"base\"");
        assert_eq!(table(&catalog, "child").storage[0].sql_from(), "\"public\".\"child\"");
        assert!(!table(&catalog, "no_key").storage[0].can_identify);
        assert!(table(&catalog, "full_key").storage[0].can_identify);
        let generated = &table(&catalog, "generated").columns;
        assert_eq!(generated.iter().map(|c| c.generated).collect::<Vec<_>>()[1], Generated::Stored);
        assert!(!generated[0].nullable && generated[2].nullable);
        assert_eq!(catalog.block_size, 8192);

        for (tables, message) in [
            ("public.a_view", "a view"),
            ("public.fleeting", "unlogged"),
            ("public.Swapped", "matches no table"),
            ("public.zz*", "no table is selected"),
        ] {
            let error = load(&sql, tables).await.unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
        assert_eq!(load(&sql, "public.parts_b").await.unwrap().tables[0].storage.len(), 1);

        database.psql("drop index by_index_cb");
        assert!(table(&load(&sql, "").await.unwrap(), "by_index").keys.key().is_empty());
    }
}

#[tokio::test]
async fn types_are_named_and_resolved() {
    let array = |element| Shape::Array { element: Box::new(element), delimiter: ',' };
    let mood = || Shape::Enum(vec!["sad".into(), "ok".into(), "it's \"fine\"".into()]);
    let ints = || array(Shape::Scalar(23));
    let expected = [
        ("id", "bigint", Shape::Scalar(20)),
        ("n", "numeric(12,2)", Shape::Scalar(1700)),
        ("v", "character varying(7)", Shape::Scalar(1043)),
        ("c", "character(3)", Shape::Scalar(1042)),
        ("bare", "bpchar", Shape::Scalar(1042)),
        ("t3", "timestamp(3) without time zone", Shape::Scalar(1114)),
        ("tz", "timestamp with time zone", Shape::Scalar(1184)),
        ("i", "interval day to second(2)", Shape::Scalar(1186)),
        ("b", "bit(3)", Shape::Scalar(1560)),
        ("vb", "bit varying(9)", Shape::Scalar(1562)),
        ("m", "public.mood", mood()),
        ("ms", "public.mood[]", array(mood())),
        ("dm", "public.dmood", mood()),
        ("dms", "public.dmood[]", array(mood())),
        ("di", "public.dints", ints()),
        ("dis", "public.dints[]", array(ints())),
        ("p", "public.pair", Shape::TEXT),
        ("ps", "public.pair[]", array(Shape::TEXT)),
        ("h", "public.hstore", Shape::TEXT),
        ("ct", "public.citext", Shape::TEXT),
        ("cts", "public.citext[]", array(Shape::TEXT)),
        ("bx", "box[]", Shape::Array { element: Box::new(Shape::Scalar(603)), delimiter: ';' }),
        ("iv", "int2vector", Shape::Scalar(22)),
        ("pt", "point", Shape::Scalar(600)),
        ("r", "int4range", Shape::TEXT),
        ("rs", "int4range[]", array(Shape::TEXT)),
        ("nn", "name", Shape::Scalar(19)),
        ("ch", "\"char\"", Shape::Scalar(18)),
        ("js", "jsonb[]", array(Shape::Scalar(3802))),
        ("num", "numeric(3,1)[]", array(Shape::Scalar(1700))),
        ("x", "xml", Shape::Scalar(142)),
        ("o", "oid", Shape::Scalar(26)),
        ("reg", "regclass", Shape::Scalar(2205)),
    ];
    for server in Server::all() {
        let database = server.database("types");
        database.psql(TABLES);
        let sql = connect(&database.url()).await;
        for path in ["''", "public", "pg_catalog, public"] {
            sql.execute(&format!("set search_path = {path}"), "test").await.unwrap();
            let catalog = load(&sql, "public.types").await.unwrap();
            for (column, (name, source_type, shape)) in table(&catalog, "types").columns.iter().zip(&expected) {
                let wanted = ColumnType { shape: shape.clone(), source_type: (*source_type).into() };
                assert_eq!((column.name.as_str(), &column.column_type), (*name, &wanted));
            }
        }
        assert!(matches!(expected[10].2.decoder().0, DataType::Enum(labels) if &*labels[2] == "it's \"fine\""));

        // A type that is dropped is text, by its oid; what was learnt before stays what it was.
        let oid: u32 = database.psql("select 'mood[]'::regtype::oid").parse().unwrap();
        let mut types = TypeCache::default();
        types.load(sql.client(), [(oid, -1)]).await.unwrap();
        database.psql("drop type mood cascade");
        types.load(sql.client(), [(oid, -1)]).await.unwrap();
        assert_eq!(types.get(oid, -1).source_type, "public.mood[]");
        types.forget_user_types();
        types.load(sql.client(), [(oid, -1)]).await.unwrap();
        assert_eq!(types.get(oid, -1), ColumnType { shape: Shape::TEXT, source_type: format!("oid {oid}") });
    }
}

#[tokio::test]
async fn names_that_need_no_query_are_the_servers() {
    for server in Server::all() {
        let sql = connect(&server.url("postgres")).await;
        for (oid, typmod, name) in types::builtin_names() {
            let row = sql.query_one("SELECT pg_catalog.format_type($1, $2)", &[&oid, &typmod], "test").await.unwrap();
            assert_eq!(name, row.get::<_, &str>(0));
        }
    }
}

#[tokio::test]
async fn a_changed_table_is_seen_and_a_replay_is_not_a_change() {
    for server in Server::all() {
        let database = server.database("changed");
        database.psql("create type mood as enum ('a'); create table t (id int primary key, m mood)");
        let sql = connect(&database.url()).await;
        publish(&sql, "p", &load(&sql, "").await.unwrap()).await.unwrap();
        let slot = slot(&database);
        database.psql(
            "insert into t values (1, 'a'); alter table t add x numeric(5,2); insert into t values (2);
             alter table t rename to u; insert into u values (3); alter table u drop m; insert into u values (4);
             drop type mood",
        );
        let messages = messages(&sql, &slot, "p").await;
        let relations: Vec<_> = messages
            .iter()
            .filter_map(|message| match pgoutput::parse(message).unwrap() {
                Message::Relation(relation) => Some((message, relation)),
                _ => None,
            })
            .collect();
        let mut cache = RelationCache::new("db", Selection::default(), TypeCache::default());
        let mut shapes = Vec::new();
        let mut state = walbrook::source::State::new();
        for (message, relation) in &relations {
            cache.announce(message, relation);
            let seen = cache.learn(sql.client(), relation.id).await.unwrap();
            let schema = seen.plan().unwrap().schema.clone();
            shapes.push((schema.version, schema.name.to_string(), schema.columns.len()));
            if let Seen::First { entry, .. } | Seen::Changed { entry, .. } = seen {
                state.insert(entry.key, entry.value.unwrap());
            }
        }
        let name = str::to_string;
        assert_eq!(shapes, [(1, name("t"), 2), (2, name("t"), 3), (3, name("u"), 3), (4, name("u"), 2)]);
        let mut replay = RelationCache::new("db", Selection::default(), TypeCache::default());
        replay.restore(&state).unwrap();
        let mut again = |at: usize| match replay.announce(relations[at].0, &relations[at].1) {
            Standing::Known(plan) => Some(plan.schema.version),
            _ => None,
        };
        assert_eq!((again(3), again(0)), (Some(4), None));
    }
}

#[tokio::test]
async fn column_lists_and_row_filters_of_others() {
    for server in Server::all() {
        let database = server.database("lists");
        database.psql(
            "create table t (id int primary key, a text, b text);
             create publication p for table t (id, b) where (id > 5 and b <> 'x')",
        );
        let sql = connect(&database.url()).await;
        let catalog = load(&sql, "").await.unwrap();
        let publication = Publication::read(sql.client(), sql.server_version_num(), "p").await.unwrap().unwrap();
        let published = &publication.tables[0];
        assert_eq!(published.columns.as_deref(), Some(&["id".to_string(), "b".to_string()][..]));
        let filter = published.row_filter.as_deref().unwrap();
        assert_eq!(
            database.psql(&format!(
                "insert into t values (5, '', 'y'), (6, '', 'x'), (7, '', 'z'); select id from t where {filter}"
            )),
            "7"
        );

        let slot = slot(&database);
        database.psql("insert into t values (8, '', 'z')");
        let mut cache = RelationCache::new("db", Selection::default(), TypeCache::default());
        cache.prime(&catalog.tables[0], published.columns.as_deref()).unwrap();
        let messages = messages(&sql, &slot, "p").await;
        let relation = messages.iter().find_map(|message| match pgoutput::parse(message).unwrap() {
            Message::Relation(relation) => Some(relation),
            _ => None,
        });
        assert!(matches!(cache.announce(b"", &relation.unwrap()), Standing::Known(_)));
    }
}
