use super::*;
use crate::source::mysql::NAMES;

/// A row of an answer; `-` is NULL.
fn row(columns: &[&str]) -> TextRow {
    columns.iter().map(|text| (*text != "-").then(|| text.to_string())).collect()
}

fn relation(name: &str, kind: &str, engine: &str) -> Relation {
    Relation::of(&row(&["x", name, kind, engine, "utf8mb4_general_ci", ""]))
}

fn select(tables: &str) -> Selection {
    Selection::new(&NAMES, &[tables], &[], &[], &[]).unwrap()
}

/// Columns as `name type nullable extra generation`, unique indexes as `name column prefix kind` with a row a column.
fn def(relation: Relation, columns: &[[&str; 5]], indexes: &[[&str; 4]]) -> TableDef {
    let mut details = Details::default();
    for [name, column_type, nullable, extra, generation] in columns {
        details.column(&row(&["x", &relation.name, name, column_type, "-", "-", nullable, extra, generation]));
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for [name, column, prefix, kind] in indexes {
        let place = counts.entry(name).or_default();
        *place += 1;
        details.index(&row(&["x", &relation.name, name, &place.to_string(), column, prefix, kind]));
    }
    details.tables.remove(&("x".to_owned(), relation.name.clone())).unwrap().into_def(relation)
}

fn names(def: &TableDef, places: &[u16]) -> Vec<String> {
    places.iter().map(|at| def.columns[usize::from(*at)].name.to_string()).collect()
}

#[test]
fn only_tables_are_wanted() {
    let relations = || {
        vec![
            relation("t", "BASE TABLE", "InnoDB"),
            relation("history", "SYSTEM VERSIONED", "InnoDB"),
            relation("v", "VIEW", "-"),
            relation("s", "SEQUENCE", "InnoDB"),
            relation("tmp", "TEMPORARY", "InnoDB"),
        ]
    };
    let wanted = choose(relations(), &select("x.*")).unwrap();
    assert_eq!(wanted.relations.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["t", "history"]);
    let left_out: Vec<_> = wanted.left_out.iter().map(|l| (l.name.as_str(), l.why)).collect();
    assert_eq!(left_out, [("s", "a sequence"), ("tmp", "temporary"), ("v", "a view")]);
    let named = choose(relations(), &select("x.t,x.v")).err().unwrap();
    assert!(named.to_string().contains("x.v cannot be streamed: it is a view"), "{named}");
    let absent = choose(relations(), &select("x.none")).err().unwrap();
    assert!(absent.remedy_text().unwrap().contains("GRANT SELECT"), "{absent:?}");
    assert_eq!(choose(relations(), &select("x.t,y.*")).unwrap().warnings, ["tables \"y.*\" matches no table"]);
}

#[test]
fn the_key_is_the_one_innodb_clusters_by() {
    let columns = [["a", "int", "NO", "", "-"], ["b", "varchar(10)", "NO", "", "-"], ["c", "int", "YES", "", "-"]];
    let of = |indexes: &[[&str; 4]]| {
        let def = def(relation("t", "BASE TABLE", "InnoDB"), &columns, indexes);
        names(&def, &def.key)
    };
    assert_eq!(of(&[]), [""; 0]);
    assert_eq!(of(&[["k", "c", "-", "BTREE"]]), [""; 0], "it may be NULL");
    assert_eq!(of(&[["k", "b", "3", "BTREE"], ["l", "a", "-", "BTREE"]]), ["a"], "a prefix identifies nothing");
    assert_eq!(of(&[["e", "-", "-", "BTREE"], ["k", "b", "-", "BTREE"], ["k", "a", "-", "BTREE"]]), ["b", "a"]);
    assert_eq!(of(&[["a", "b", "-", "BTREE"], ["PRIMARY", "a", "-", "BTREE"]]), ["a"]);
}

#[test]
fn several_unique_keys_stand_in_the_order_of_show_index() {
    let mut details = Details::default();
    for name in ["a", "b"] {
        details.column(&row(&["x", "t", name, "int", "-", "-", "NO", "", ""]));
        details.index(&row(&["x", "t", name, "1", name, "-", "BTREE"]));
    }
    let mut parts = details.tables.remove(&("x".to_owned(), "t".to_owned())).unwrap();
    parts.order_indexes(["b", "a"].into_iter());
    let def = parts.into_def(relation("t", "BASE TABLE", "InnoDB"));
    assert_eq!(names(&def, &def.key), ["b"]);
}

/// As MariaDB's log has them, seen with `mariadb-binlog --print-table-metadata`.
#[test]
fn what_is_logged_and_not_listed_stands_behind_the_rest() {
    let columns = [["a", "int(11)", "YES", "", "-"], ["b", "text", "YES", "", "-"]];
    let indexes = [["b", "b", "-", "HASH"], ["a", "a", "-", "BTREE"]];
    let def_ = def(relation("t", "SYSTEM VERSIONED", "InnoDB"), &columns, &indexes);
    let all: Vec<(&str, bool, &str)> =
        def_.columns.iter().map(|c| (&*c.name, c.hidden, &*c.column_type.text)).collect();
    assert_eq!(
        all,
        [
            ("a", false, "int(11)"),
            ("b", false, "text"),
            ("row_start", true, "timestamp(6)"),
            ("row_end", true, "timestamp(6)"),
            ("DB_ROW_HASH_1", true, "bigint(21) unsigned"),
        ]
    );
    assert!(def_.system_versioned && def_.unique[0].is_partial() && !def_.unique[1].is_partial());
    let named = [["a", "int(11)", "YES", "", "-"], ["s", "timestamp(6)", "NO", "STORED GENERATED", "ROW START"]];
    assert_eq!(def(relation("t", "SYSTEM VERSIONED", "InnoDB"), &named, &[]).columns.len(), 2);
    let memory = def(relation("t", "BASE TABLE", "MEMORY"), &columns, &indexes);
    assert_eq!(memory.columns.len(), 2, "there a hash is the index itself");
}

#[test]
fn columns_as_each_server_describes_them() {
    let columns = [
        ["id", "bigint unsigned", "NO", "auto_increment INVISIBLE", ""],
        ["g", "int", "YES", "VIRTUAL GENERATED INVISIBLE", "(`id` + 1)"],
        ["s", "int", "YES", "STORED GENERATED", "(`id` + 1)"],
    ];
    let def = def(relation("t", "BASE TABLE", "InnoDB"), &columns, &[["PRIMARY", "id", "-", "BTREE"]]);
    assert!(def.columns[0].invisible && def.columns[0].auto_increment && def.columns[1].invisible);
    assert_eq!((def.columns[1].generated, def.columns[2].generated), (Generated::Virtual, Generated::Stored));
    assert_eq!(names(&def, &def.key), ["id"]);
}

#[test]
fn marias_json_is_a_check_of_its_own_column() {
    let mut details = Details::default();
    details.json_check(&row(&["x", "t", "a", "json_valid(`a`)"]));
    details.json_check(&row(&["x", "t", "b", "json_valid(`a`)"]));
    details.json_check(&row(&["x", "t", "we`ird", "json_valid(`we``ird`)"]));
    for name in ["a", "b", "we`ird"] {
        details.column(&row(&["x", "t", name, "longtext", "utf8mb4_bin", "-", "YES", "", "-"]));
    }
    let parts = details.tables.remove(&("x".to_owned(), "t".to_owned())).unwrap();
    assert_eq!(parts.columns.iter().map(|column| column.json).collect::<Vec<_>>(), [true, false, true]);
}
