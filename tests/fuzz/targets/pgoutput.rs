//! One message, whose tuples are scanned for every width and projection, and encoded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walbrook_fuzz::wire::pg::pgoutput::{Message, OldTuple, TupleShape, parse};
use walbrook_fuzz::{draft, encode, table, widest};

fuzz_target!(|bytes: &[u8]| {
    // The first byte is the projection's pattern, the rest the message.
    let Some((&pattern, message)) = bytes.split_first() else { return };
    let Ok(parsed) = parse(message) else { return };
    for width in 0..=widest() {
        let keep = |index: usize| pattern >> (index % 8) & 1 == 0;
        let shape = TupleShape::new((0..width).map(|index| (index % 3 == 0, keep(index))));
        let mut builder = draft();
        let start = builder.cells_start();
        let table = builder.table(&table(shape.kept()));
        let base = 1;
        let scanned = match &parsed {
            Message::Insert(insert) => {
                insert.scan(base, &shape, builder.cells_mut()).map(|()| builder.insert(table, start, 1))
            }
            Message::Update(update) => update.scan(base, &shape, builder.cells_mut()).map(|()| {
                let key_only = (update.old != OldTuple::None).then_some(update.old == OldTuple::Key);
                builder.update(table, start, key_only, 1);
            }),
            Message::Delete(delete) => delete
                .scan(base, &shape, builder.cells_mut())
                .map(|()| builder.delete(table, start, delete.old == OldTuple::Key, 1)),
            Message::Logical(logical) => {
                builder.cells_mut().extend(logical.cells(base));
                builder.message(start, logical.transactional, 1);
                encode(builder, bytes);
                return;
            }
            Message::Truncate(truncate) => return assert!(truncate.relations().len() * 4 < message.len()),
            _ => return,
        };
        match scanned {
            Ok(()) => encode(builder, bytes),
            Err(_) => assert_eq!(builder.cells_start(), start, "an error adds no cell"),
        }
    }
});
