//! One cell, decoded as every type and as arrays of them, and encoded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walbrook_fuzz::record::Cell;
use walbrook_fuzz::{draft, encode, table, widest};

fuzz_target!(|bytes: &[u8]| {
    let schema = table(widest());
    // One row a type: an error in one column would hide the others.
    for column in 0..widest() {
        let mut builder = draft();
        let table = builder.table(&schema);
        let cell = |index| if index == column { Cell::at(0, bytes.len()) } else { Cell::MISSING };
        builder.cells_mut().extend((0..widest()).map(cell));
        builder.insert(table, 0, 1);
        encode(builder, bytes);
    }
});
