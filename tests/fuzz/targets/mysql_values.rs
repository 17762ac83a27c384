//! One cell of MySQL or MariaDB, decoded as every type and encoded. The first two bytes are the layout.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walbrook_fuzz::record::Cell;
use walbrook_fuzz::{draft, encode, mysql_table};

fuzz_target!(|bytes: &[u8]| {
    let Some((layout, bytes)) = bytes.split_first_chunk() else { return };
    let schema = mysql_table(u16::from_le_bytes(*layout).into());
    // One row a type: an error in one column would hide the others.
    for column in 0..schema.columns.len() {
        let mut builder = draft();
        let table = builder.table(&schema);
        let cell = |index| if index == column { Cell::at(0, bytes.len()) } else { Cell::MISSING };
        builder.cells_mut().extend((0..schema.columns.len()).map(cell));
        builder.insert(table, 0, 1);
        encode(builder, bytes);
    }
});
