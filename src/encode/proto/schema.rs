//! Shapes of tables, as messages.

use crate::proto::v1;
use crate::record::{Column, DataType, Identity, TableSchema};

/// A table's shape with the reference 0.
pub fn message(table: &TableSchema) -> v1::TableSchema {
    v1::TableSchema {
        reference: 0,
        table_id: table.id,
        version: table.version,
        database: table.database.to_string(),
        namespace: table.namespace.to_string(),
        name: table.name.to_string(),
        columns: table.columns.iter().map(column).collect(),
        key: table.key.iter().map(|&index| index.into()).collect(),
        identity: match table.identity {
            Identity::Default => v1::ReplicaIdentity::Default,
            Identity::Index => v1::ReplicaIdentity::Index,
            Identity::Full => v1::ReplicaIdentity::Full,
            Identity::Nothing => v1::ReplicaIdentity::Nothing,
        }
        .into(),
    }
}

fn column(column: &Column) -> v1::Column {
    v1::Column {
        name: column.name.to_string(),
        r#type: Some(column_type(&column.data_type)),
        source_type: column.source_type.to_string(),
        nullable: column.nullable,
    }
}

fn column_type(data_type: &DataType) -> v1::ColumnType {
    use v1::TypeKind;
    let mut message = v1::ColumnType::default();
    let kind = match data_type {
        DataType::Bool => TypeKind::Boolean,
        DataType::Int { bits, unsigned } => {
            message.bits = (*bits).into();
            message.unsigned = *unsigned;
            TypeKind::Integer
        }
        DataType::Float { bits } => {
            message.bits = (*bits).into();
            TypeKind::Float
        }
        DataType::Decimal => TypeKind::Decimal,
        DataType::Text => TypeKind::Text,
        DataType::Bytes => TypeKind::Bytes,
        DataType::Date => TypeKind::Date,
        DataType::Timestamp => TypeKind::Timestamp,
        DataType::TimestampTz => TypeKind::Timestamptz,
        DataType::Uuid => TypeKind::Uuid,
        DataType::Json => TypeKind::Json,
        DataType::Enum(labels) => {
            message.labels = labels.iter().map(ToString::to_string).collect();
            TypeKind::Enum
        }
        DataType::Set(labels) => {
            message.labels = labels.iter().map(ToString::to_string).collect();
            TypeKind::Set
        }
        DataType::Array(array) => {
            message.element = Some(Box::new(column_type(&array.element)));
            TypeKind::Array
        }
    };
    message.kind = kind.into();
    message
}
