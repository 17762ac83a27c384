//! One COPY row, read with as many columns as it has tabs, and encoded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walbrook_fuzz::wire::pg::copy::scan_row;
use walbrook_fuzz::{draft, encode, table};

fuzz_target!(|bytes: &[u8]| {
    let tabs = bytes.iter().filter(|&&byte| byte == b'\t').count();
    for columns in [tabs + 1, tabs, 0] {
        let mut row = bytes.to_vec();
        let mut builder = draft();
        let start = builder.cells_start();
        let table = builder.table(&table(columns));
        if scan_row(&mut row, 0, columns, builder.cells_mut()).is_ok() {
            builder.insert(table, start, 1);
            encode(builder, &row);
        } else {
            assert_eq!(builder.cells_start(), start, "an error adds no cell");
        }
    }
});
