//! What consumers in other languages rely on: that numbers in `proto/` stay, and that everything there is explained.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::support::project;

fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(walbrook::proto::FILE_DESCRIPTOR_SET).expect("a descriptor set");
    assert_eq!(set.file.len(), 3);
    set.file
}

/// A line for everything that is on the wire.
fn listing(files: &[FileDescriptorProto]) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in files {
        let package = file.package();
        file.message_type.iter().for_each(|message| message_lines(package, message, &mut lines));
        file.enum_type.iter().for_each(|this| enum_lines(package, this, &mut lines));
        for service in &file.service {
            for method in &service.method {
                let stream = |streams: bool| if streams { "stream " } else { "" };
                lines.insert(format!(
                    "rpc {package}.{}.{}({}{}) returns ({}{})",
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    method.input_type(),
                    stream(method.server_streaming()),
                    method.output_type()
                ));
            }
        }
    }
    lines
}

fn message_lines(scope: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", message.name());
    message.field.iter().for_each(|field| _ = lines.insert(field_line(&name, message, field)));
    for range in &message.reserved_range {
        lines.insert(format!("{name} reserved {} to {}", range.start(), range.end() - 1));
    }
    message.nested_type.iter().for_each(|nested| message_lines(&name, nested, lines));
    message.enum_type.iter().for_each(|nested| enum_lines(&name, nested, lines));
}

fn field_line(scope: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let mut line = format!("{scope} {} ", field.number());
    match field.oneof_index {
        Some(_) if field.proto3_optional() => line.push_str("optional "),
        Some(index) => _ = write!(line, "oneof {} ", message.oneof_decl[index as usize].name()),
        None if field.label() == Label::Repeated => line.push_str("repeated "),
        None => {}
    }
    match field.r#type() {
        Type::Message | Type::Enum => line.push_str(field.type_name()),
        scalar => line.push_str(&scalar.as_str_name()["TYPE_".len()..].to_lowercase()),
    }
    line + " " + field.name()
}

fn enum_lines(scope: &str, this: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &this.value {
        lines.insert(format!("{scope}.{} = {} {}", this.name(), value.number(), value.name()));
    }
}

/// A line that is gone or changed breaks consumers of before; a new one belongs into the file.
#[test]
fn numbers_names_and_types_stay() {
    let file = "tests/fixtures/proto/v1.txt";
    let golden = std::fs::read_to_string(project(file)).expect("the listing");
    let golden: BTreeSet<String> = golden.lines().map(str::to_owned).collect();
    let found = listing(&files());
    let lines = |lines: Vec<&String>| lines.iter().fold(String::new(), |text, line| text + line + "\n");
    let gone = lines(golden.difference(&found).collect());
    let new = lines(found.difference(&golden).collect());
    assert!(gone.is_empty(), "changed or gone, which breaks every consumer built before:\n{gone}");
    assert!(new.is_empty(), "add to {file}:\n{new}");
}

#[test]
fn no_number_has_two_meanings() {
    let mut numbers = BTreeSet::new();
    for line in listing(&files()).into_iter().filter(|line| !line.starts_with("rpc ")) {
        let number: String = line.split(' ').filter(|word| *word != "=").take(2).collect::<Vec<_>>().join(" ");
        assert!(numbers.insert(number), "{line}");
    }
}

/// The paths in a descriptor of what has no comment in front. From descriptor.proto: 4 messages, 5 enums, 6 services of a
/// file; 2 fields, 3 nested types, 4 enums, 8 oneofs of a message; 2 values of an enum; 2 methods of a service.
fn unexplained(file: &FileDescriptorProto) -> Vec<String> {
    let info = file.source_code_info.as_ref().expect("comments");
    let explained = |path: &[i32]| {
        let location = info.location.iter().find(|location| location.path == path);
        location.is_some_and(|location| location.leading_comments().trim().ends_with('.'))
    };
    let mut missing = Vec::new();
    let mut check = |path: &[i32], name: String| {
        if !explained(path) {
            missing.push(name);
        }
    };
    for (at, message) in (0..).zip(&file.message_type) {
        check(&[4, at], message.name().to_owned());
        assert!(message.nested_type.is_empty() && message.enum_type.is_empty(), "nested types: explain them here too");
        for (nth, field) in (0..).zip(&message.field) {
            check(&[4, at, 2, nth], format!("{}.{}", message.name(), field.name()));
        }
        // Behind the declared ones is one for every optional field.
        let optional = message.field.iter().filter(|field| field.proto3_optional()).count();
        for (nth, oneof) in (0..).zip(&message.oneof_decl[..message.oneof_decl.len() - optional]) {
            check(&[4, at, 8, nth], format!("{}.{}", message.name(), oneof.name()));
        }
    }
    for (at, this) in (0..).zip(&file.enum_type) {
        check(&[5, at], this.name().to_owned());
        for (nth, value) in (0..).zip(&this.value) {
            check(&[5, at, 2, nth], value.name().to_owned());
        }
    }
    for (at, service) in (0..).zip(&file.service) {
        check(&[6, at], service.name().to_owned());
        for (nth, method) in (0..).zip(&service.method) {
            check(&[6, at, 2, nth], format!("{}.{}", service.name(), method.name()));
        }
    }
    missing
}

#[test]
fn everything_is_explained() {
    for mut file in files() {
        assert_eq!(unexplained(&file), [""; 0], "without a comment that ends in a full stop, in {}", file.name());
        // The check can fail.
        file.source_code_info.as_mut().expect("comments").location.retain(|location| location.path != [4, 0, 2, 0]);
        assert_eq!(unexplained(&file).len(), usize::from(!file.message_type[0].field.is_empty()), "{}", file.name());
    }
}

/// The enums are read by their numbers where a zero is never sent.
#[test]
fn zero_means_nothing_in_an_enum() {
    let files = files();
    let enums: Vec<_> = files.iter().flat_map(|file| &file.enum_type).collect();
    assert!(enums.len() > 8);
    for this in enums {
        assert!(this.value[0].number() == 0 && this.value[0].name().ends_with("_UNSPECIFIED"), "{}", this.name());
    }
}
