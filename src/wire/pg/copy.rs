//! Rows of COPY … TO STDOUT in its text format, one in each CopyData message.
//!
//! Invariants:
//! - A row is unescaped in its own bytes: the plain form is never longer than the escaped one, and a field never grows
//!   into the next. A row without a backslash is only read.
//! - A message is exactly one row of exactly the expected columns; anything else is an error and adds no cell.

use memchr::memchr3;

use crate::record::Cell;
use crate::wire::WireError;

/// Finds the fields of `row` (with its final newline) and adds a cell for each. `base`: where `row` is in the frame that
/// the cells are to point into.
///
/// From the manual, COPY, "Text Format": columns are separated by a tab, a row ends with a newline, `\N` alone is NULL,
/// and a backslash begins one of
///
/// ```text
/// \b \f \n \r \t \v       the ASCII control characters 8, 12, 10, 13, 9, 11
/// \digits  \xdigits       the byte with this octal (1 to 3 digits) or hexadecimal (1 or 2 digits) code
/// \ and any other byte    that byte
/// ```
///
/// # Errors
/// Not one whole row, another number of columns, a backslash at the end, a frame beyond 4 GiB. No cell is added then; the
/// row's bytes may have been changed.
#[inline]
pub fn scan_row(row: &mut [u8], base: usize, columns: usize, cells: &mut Vec<Cell>) -> Result<(), WireError> {
    let start = cells.len();
    scan_fields(row, base, columns, cells).inspect_err(|_| cells.truncate(start))
}

#[inline]
fn scan_fields(row: &mut [u8], base: usize, columns: usize, cells: &mut Vec<Cell>) -> Result<(), WireError> {
    let [fields @ .., b'\n'] = row else { return Err(wrong("no newline at the end of the row", row.len())) };
    if base.checked_add(fields.len()).is_none_or(|end| end >= u32::MAX as usize) {
        return Err(wrong("the row ends beyond 4 GiB of its frame", fields.len()));
    }
    if fields == b"\\." {
        return Err(wrong("an end-of-data marker, which this protocol does not have", 0));
    }
    let Some(last) = columns.checked_sub(1) else {
        return if fields.is_empty() { Ok(()) } else { Err(wrong(TOO_MANY, 0)) };
    };
    cells.reserve(columns);
    let mut at = 0;
    for column in 0..columns {
        let field_start = at;
        let stop = memchr3(b'\t', b'\\', b'\n', &fields[at..]).map_or(fields.len(), |found| at + found);
        let end = match fields.get(stop) {
            Some(b'\\') => {
                let (cell, end) = escaped(fields, field_start, stop, base)?;
                cells.push(cell);
                end
            }
            _ => {
                cells.push(Cell::at(base + field_start, stop - field_start));
                stop
            }
        };
        match fields.get(end) {
            Some(b'\t') if column < last => at = end + 1,
            Some(b'\t') => return Err(wrong(TOO_MANY, end)),
            Some(_) => return Err(wrong("more than one row in a message", end)),
            None if column == last => {}
            None => return Err(wrong("fewer columns than asked for", end)),
        }
    }
    Ok(())
}

const TOO_MANY: &str = "more columns than asked for";

#[cold]
fn wrong(problem: &'static str, at: usize) -> WireError {
    WireError::new("COPY row", problem, at)
}

/// Reads the field from `start`, whose first backslash is at `read`; returns its cell and where it ends.
fn escaped(fields: &mut [u8], start: usize, mut read: usize, base: usize) -> Result<(Cell, usize), WireError> {
    if read == start
        && fields.get(read + 1) == Some(&b'N')
        && matches!(fields.get(read + 2), None | Some(b'\t' | b'\n'))
    {
        return Ok((Cell::NULL, read + 2));
    }
    let mut write = read;
    // Here `read` is at a backslash, and everything before it has been written up to `write`.
    loop {
        let (byte, length) = escape(&fields[read..]).ok_or_else(|| wrong("a backslash at the end", read))?;
        fields[write] = byte;
        write += 1;
        read += length;
        // JSON's own escapes come as pairs: the next backslash is mostly near, the field's end mostly far.
        let run = memchr3(b'\t', b'\\', b'\n', &fields[read..]).unwrap_or(fields.len() - read);
        fields.copy_within(read..read + run, write);
        write += run;
        read += run;
        if fields.get(read) != Some(&b'\\') {
            return Ok((Cell::at(base + start, write - start), read));
        }
    }
}

/// The byte that an escape sequence stands for, and its length; None when it is cut off.
fn escape(sequence: &[u8]) -> Option<(u8, usize)> {
    let plain = match *sequence.get(1)? {
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'0'..=b'7' => return Some(digits(&sequence[1..], 8, 3, 1)),
        b'x' if sequence.get(2).is_some_and(u8::is_ascii_hexdigit) => return Some(digits(&sequence[2..], 16, 2, 2)),
        other => other,
    };
    Some((plain, 2))
}

/// Reads at most `most` digits that stand `before` bytes into the sequence; as in the server, bits beyond a byte are cut.
fn digits(text: &[u8], radix: u32, most: usize, before: usize) -> (u8, usize) {
    let values = text.iter().take(most).map_while(|&byte| char::from(byte).to_digit(radix));
    let (value, count) = values.fold((0, 0), |(value, count), digit| (value * radix + digit, count + 1));
    (value as u8, before + count)
}

#[cfg(test)]
mod tests;
