//! Statements and their rows: text, binary, huge.

use walbrook::error::Class;
use walbrook::record::Cell;
use walbrook::source::mysql::connection::{Connection, Statement};
use walbrook::source::mysql::error::code;
use walbrook::source::mysql::rows::Step;
use walbrook::wire::mysql::protocol::command::Param;

use super::{ask, to, told};
use crate::support::mysql::{Server, Version};

/// All rows of a prepared query, each as its cells' bytes.
async fn read(connection: &mut Connection, statement: &Statement, params: &[Param<'_>]) -> Vec<Vec<Option<Vec<u8>>>> {
    let mut stream = connection.stream(statement, params).await.unwrap();
    let width = stream.columns().len();
    let (mut rows, mut cells) = (Vec::new(), Vec::new());
    fn deliver(rows: &mut Vec<Vec<Option<Vec<u8>>>>, cells: &mut Vec<Cell>, frame: &[u8], width: usize) {
        let value = |cell: &Cell| cell.range().map(|(offset, len)| frame[offset..offset + len].to_vec());
        rows.extend(cells.chunks(width).map(|row| row.iter().map(value).collect()));
        cells.clear();
    }
    loop {
        match stream.next(&mut cells).unwrap() {
            Step::Row => {}
            step => {
                let frame = stream.take_frame();
                deliver(&mut rows, &mut cells, &frame, width);
                match step {
                    Step::Dry => stream.fill().await.unwrap(),
                    Step::Long => {
                        let frame = stream.long_row(&mut cells).await.unwrap();
                        deliver(&mut rows, &mut cells, &frame, width);
                    }
                    _ => return rows,
                }
            }
        }
    }
}

#[tokio::test]
async fn parameters_and_values_of_every_frame() {
    for server in Server::all() {
        let mut connection = Connection::connect(&to(server, "cdc", "")).await.unwrap();
        let statement = connection
            .prepare(
                "SELECT CAST(? AS SIGNED), CAST(? AS UNSIGNED), ?, HEX(?), ?, CAST('2026-11-21 04:05:06' AS DATETIME)",
            )
            .await
            .unwrap();
        let params =
            [Param::Int(-5), Param::UInt(u64::MAX), Param::Text("größe"), Param::Bytes(b"\0\xff"), Param::Null];
        let rows = read(&mut connection, &statement, &params).await;
        let value = |i: usize| rows[0][i].clone();
        assert_eq!(value(0), Some((-5i64).to_le_bytes().to_vec()));
        assert_eq!(value(1), Some(u64::MAX.to_le_bytes().to_vec()));
        assert_eq!(value(2), Some("größe".as_bytes().to_vec()));
        assert_eq!(value(3), Some(b"00FF".to_vec()));
        assert_eq!(value(4), None);
        assert_eq!(value(5), Some(vec![0xea, 0x07, 11, 21, 4, 5, 6]));
        assert!(connection.stream(&statement, &params[..4]).await.err().is_some_and(|e| e.class() == Class::Bug));
        connection.forget(statement).await.unwrap();

        let none = connection.prepare("SELECT TABLE_NAME FROM information_schema.TABLES WHERE 1 = 0").await.unwrap();
        assert!(read(&mut connection, &none, &[]).await.is_empty());
        let (error, _) = told(connection.prepare("SELECT * FROM mysql.nothing").await);
        assert_eq!((error.class(), code(&error)), (Class::Config, Some(1146)));
        assert_eq!(ask(&mut connection, "SELECT 1").await, "1");
    }
}

#[tokio::test]
async fn many_rows_and_huge_ones() {
    for version in [Version::MySql97, Version::MariaDb118] {
        let Some(server) = Server::own(version, &["max-allowed-packet=256M"]) else { continue };
        let sql = "create database big; create table big.t (id int primary key, v longblob);
             insert into big.t with recursive n(i) as (select 1 union all select i + 1 from n where i < 900)
               select i, repeat(char(65 + i % 26), i * 17) from n;
             insert into big.t values (1001, repeat('a', 16777195)), (1002, repeat('b', 16777300)), (1003, 'c'),
               (1004, repeat('d', 40000000)), (1005, repeat('e', 262144))";
        server.sql("", sql);
        let mut connection = Connection::connect(&to(&server, "cdc", "")).await.unwrap();
        let statement = connection.prepare("SELECT id, v FROM big.t ORDER BY id").await.unwrap();
        for _ in 0..2 {
            let rows = read(&mut connection, &statement, &[]).await;
            assert_eq!(rows.len(), 905);
            let huge = [(1001, b'a', 16_777_195), (1002, b'b', 16_777_300), (1003, b'c', 1), (1004, b'd', 40_000_000)];
            let small = (1..=900u32).map(|i| (i, 65 + (i % 26) as u8, i as usize * 17));
            for (row, (id, letter, length)) in rows.iter().zip(small.chain(huge).chain([(1005, b'e', 262_144)])) {
                assert_eq!(row[0].as_deref(), Some(&id.to_le_bytes()[..]));
                let value = row[1].as_deref().unwrap();
                assert!(value.len() == length && value.iter().all(|&byte| byte == letter), "row {id}");
            }
        }
        // Given up and drained, the connection is free; given up and not drained, it says so.
        connection.stream(&statement, &[]).await.unwrap().drain().await.unwrap();
        assert_eq!(ask(&mut connection, "SELECT 1").await, "1");
        drop(connection.stream(&statement, &[]).await.unwrap());
        assert_eq!(told(connection.query("SELECT 1").await).0.class(), Class::Bug);

        // A small result is small.
        let mut connection = Connection::connect(&to(&server, "cdc", "")).await.unwrap();
        let (error, text) = told(connection.query("SELECT v FROM big.t a, (SELECT 1 UNION SELECT 2) b").await);
        assert!(error.class() == Class::Data && text.contains("64 MiB"), "{text}");
    }
}
