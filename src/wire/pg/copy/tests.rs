use proptest::prelude::*;

use super::*;

/// The row's fields, None for NULL.
fn read(row: &[u8], columns: usize) -> Result<Vec<Option<Vec<u8>>>, &'static str> {
    let base = 3;
    let mut frame = [&b"..."[..], row].concat();
    let mut cells = vec![Cell::MISSING];
    match scan_row(&mut frame[base..], base, columns, &mut cells) {
        Ok(()) => Ok(cells[1..].iter().map(|&cell| (!cell.is_null()).then(|| find(&frame, cell))).collect()),
        Err(error) => {
            assert_eq!(cells.len(), 1, "an error adds no cell");
            Err(error.problem)
        }
    }
}

fn find(frame: &[u8], cell: Cell) -> Vec<u8> {
    let ends = (0..=frame.len()).flat_map(|start| (start..=frame.len()).map(move |end| (start, end)));
    let (start, end) = ends.into_iter().find(|&(start, end)| Cell::at(start, end - start) == cell).unwrap();
    frame[start..end].to_vec()
}

fn fields(fields: &[&str]) -> Result<Vec<Option<Vec<u8>>>, &'static str> {
    Ok(fields.iter().map(|field| Some(field.as_bytes().to_vec())).collect())
}

#[test]
fn plain_rows() {
    assert_eq!(read(b"1\ttwo\t\n", 3), fields(&["1", "two", ""]));
    assert_eq!(read(b"\n", 1), fields(&[""]));
    assert_eq!(read(b"\n", 0), Ok(vec![]));
    assert_eq!(read(b"\t\n", 2), fields(&["", ""]));
}

#[test]
fn null_is_a_field_of_its_own() {
    assert_eq!(read(b"\\N\t\\N\n", 2), Ok(vec![None, None]));
    assert_eq!(read(b"\\\\N\tN\tNULL\n", 3), fields(&["\\N", "N", "NULL"]));
    assert_eq!(read(b"\\Nx\tx\\N\n", 2), fields(&["Nx", "xN"]));
}

#[test]
fn escapes() {
    assert_eq!(read(b"\\b\\f\\n\\r\\t\\v\\\\\n", 1), fields(&["\x08\x0c\n\r\t\x0b\\"]));
    assert_eq!(read(b"a\\tb\tc\\\\\t\\\\\\\\d\n", 3), fields(&["a\tb", "c\\", "\\\\d"]));
    assert_eq!(read(b"{\"a\": \"\\\\\"q\\\\\"\"}\tnext\n", 2), fields(&["{\"a\": \"\\\"q\\\"\"}", "next"]));
    // Not printed by the server, but part of the format.
    assert_eq!(read(b"\\101\\1012\\7\\x41\\x4a4\\xg\\.\n", 1), fields(&["AA2\x07AJ4xg."]));
    assert_eq!(read(b"\\777\n", 1), Ok(vec![Some(vec![0xff])]));
}

#[test]
fn a_message_is_one_row_of_the_expected_columns() {
    assert_eq!(read(b"1\t2\n", 3), Err("fewer columns than asked for"));
    assert_eq!(read(b"1\t2\n", 1), Err(TOO_MANY));
    assert_eq!(read(b"1\n", 0), Err(TOO_MANY));
    assert_eq!(read(b"1\n2\n", 1), Err("more than one row in a message"));
    assert_eq!(read(b"\\N\n2\n", 1), Err("more than one row in a message"));
    assert_eq!(read(b"\\t\n\n", 1), Err("more than one row in a message"));
    assert_eq!(read(b"1", 1), Err("no newline at the end of the row"));
    assert_eq!(read(b"", 1), Err("no newline at the end of the row"));
    assert_eq!(read(b"1\\\n", 1), Err("a backslash at the end"));
    assert!(read(b"\\.\n", 1).is_err());
}

#[test]
fn a_frame_beyond_4_gib_is_refused() {
    let mut cells = Vec::new();
    for base in [u32::MAX as usize, usize::MAX] {
        assert!(scan_row(&mut b"1\n".to_vec(), base, 1, &mut cells).is_err());
    }
}

/// As the server writes a field.
fn written(field: &Option<Vec<u8>>) -> Vec<u8> {
    let Some(field) = field else { return b"\\N".to_vec() };
    let mut out = Vec::new();
    for &byte in field {
        match byte {
            8 => out.extend(b"\\b"),
            9 => out.extend(b"\\t"),
            10 => out.extend(b"\\n"),
            11 => out.extend(b"\\v"),
            12 => out.extend(b"\\f"),
            13 => out.extend(b"\\r"),
            b'\\' => out.extend(b"\\\\"),
            other => out.push(other),
        }
    }
    out
}

proptest! {
    #[test]
    fn never_panics(row in prop::collection::vec(prop::sample::select(b"\\\\\\\t\nNx07.a\xff".to_vec()), 0..40), columns in 0_usize..5) {
        let _ = read(&row, columns);
        let _ = read(&[&row[..], b"\n"].concat(), columns);
    }

    #[test]
    fn reads_what_a_server_writes(row in prop::collection::vec(prop::option::of(prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\\\t\n\rN".to_vec())], 0..10)), 1..7)) {
        let text = row.iter().map(written).collect::<Vec<_>>().join(&b'\t');
        // One column whose text is `\.` is written `\\.`, so that no row looks like the end marker.
        prop_assert_eq!(read(&[&text[..], b"\n"].concat(), row.len()), Ok(row));
    }
}
