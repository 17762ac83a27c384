//! The crash tests on MySQL and MariaDB.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use super::target::{Cells, Connect, Db, Dialect, Failed, Target};
use crate::support::mysql::Database;

const SCHEMA: &str = "
    create table orders (id bigint primary key, part int, writer int, seq bigint, n int, note text, big mediumtext, big_sum bigint, sum bigint);
    create table pairs (id bigint, part varchar(20), writer int, seq bigint, n int, note text, big mediumtext, big_sum bigint, sum bigint, primary key (part, id));
    create table loose (id bigint, part int, writer int, seq bigint, n int, note text, big mediumtext, big_sum bigint, sum bigint, index (id));
    create table parts (id bigint, part int, writer int, seq bigint, n int, note text, big mediumtext, big_sum bigint, sum bigint, primary key (id, part))
      partition by list (part) (partition a values in (0, 1), partition b values in (2), partition c values in (3));
    create table side (id bigint primary key, part int, writer int, seq bigint, n int, note text, big mediumtext, big_sum bigint, sum bigint);
    create table ledger (writer int, seq bigint, ops int, digest bigint, primary key (writer, seq));
";

impl Target for Database<'_> {
    fn name(&self) -> String {
        self.name().to_owned()
    }
    fn version(&self) -> String {
        self.server().version().name().to_owned()
    }
    fn dialect(&self) -> Dialect {
        Dialect { schema: SCHEMA, partition_moves: false, truncates: false, text: "char", tidy: None }
    }
    fn source(&self, _: &str) -> String {
        format!("url: {}\n  tables: [{}.*]", self.url(), self.name())
    }
    fn connect(&self) -> Connect {
        let commands: Vec<String> = {
            let client = self.server().client("127.0.0.1", "root", self.name());
            let words = std::iter::once(client.get_program()).chain(client.get_args());
            words.map(|word| word.to_str().expect("UTF-8").to_owned()).collect()
        };
        Arc::new(move || connect(&commands))
    }
    fn filled(&self) {
        self.sql("analyze table orders, pairs, loose, parts, side");
    }
    fn end_of_log(&self) -> u64 {
        let status = if self.server().version().is_mariadb() { "show master status" } else { "show binary log status" };
        let status = self.sql(status);
        let columns: Vec<&str> = status.split('|').collect();
        self.place(&format!("{}:{}", columns[0], columns[1])).expect("a position")
    }
    /// `binlog.000003:1234/GTIDs`, `binlog.000003:1234#GTID`: 24 bits for the file, 40 for the offset.
    fn place(&self, position: &str) -> Result<u64, String> {
        let place = position.split(['/', '#']).next().unwrap_or_default();
        let parse = || {
            let (file, offset) = place.rsplit_once(':')?;
            let (_, number) = file.rsplit_once('.')?;
            Some(number.parse::<u64>().ok()? << 40 | offset.parse::<u64>().ok()?)
        };
        parse().ok_or_else(|| format!("no position in a log: {position:?}"))
    }
    fn released(&self, _: &str) -> Option<u64> {
        None
    }
    fn crash(&self) {
        self.server().stop("kill");
    }
    fn start(&self) {
        self.server().start();
    }
    fn close(&self, _: &str) {}
}

/// The server's own client; it ends at the first error.
struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

fn connect(words: &[String]) -> Result<Box<dyn Db>, Failed> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("MYSQL_PWD", "secret");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client starts");
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (stdin, stdout) = (stdin.expect("stdin"), BufReader::new(stdout.expect("stdout")));
    let mut client = Client { child, stdin, stdout, stderr: stderr.expect("stderr") };
    client.rows("select 1")?;
    Ok(Box::new(client))
}

impl Client {
    fn failed(&mut self) -> Failed {
        let mut message = String::new();
        let _ = self.stderr.read_to_string(&mut message);
        // 2002, 2003, 2006, 2013, 2055: no connection, or no more; 1053: it is going down; 1180: a commit it went down in;
        // 1205, 1213: a wait for a lock of the gap between two rows, or two such waits for each other.
        let passing = ["ERROR 20", "ERROR 1053", "ERROR 1180", "ERROR 1205", "ERROR 1213"];
        Failed { passes: passing.iter().any(|code| message.contains(code)), message }
    }
}

impl Db for Client {
    fn run(&mut self, sql: &str) -> Result<(), Failed> {
        self.rows(sql).map(drop)
    }

    fn rows(&mut self, sql: &str) -> Result<Vec<Cells>, Failed> {
        const END: &str = "executed";
        if writeln!(self.stdin, "{sql};\nselect '{END}';").is_err() {
            return Err(self.failed());
        }
        let mut rows = Vec::new();
        for line in (&mut self.stdout).lines() {
            let line = line.expect("the client's answer");
            if line == END {
                return Ok(rows);
            }
            // No text of the load is the word NULL.
            rows.push(line.split('\t').map(|cell| (cell != "NULL").then(|| cell.to_owned())).collect());
        }
        Err(self.failed())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
