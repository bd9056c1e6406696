//! Checks on the types that a statement casts to.

use arrow::datatypes::DataType;

use super::super::QueryError;

/// Refuses a type with a list of a fixed size in it: the engine makes such a list in full also where it is null, so that
/// ten characters would take all memory, and an allocation that fails ends the process.
pub(super) fn check(data_type: &DataType) -> Result<(), QueryError> {
    match is_sized(data_type) {
        true => Err(QueryError::Invalid("a list has no size in its type: write INT[] without a size".into())),
        false => Ok(()),
    }
}

fn is_sized(data_type: &DataType) -> bool {
    use DataType::{
        Dictionary, FixedSizeBinary, FixedSizeList, LargeList, LargeListView, List, ListView, Map, RunEndEncoded,
        Struct, Union,
    };
    match data_type {
        FixedSizeList(..) | FixedSizeBinary(_) => true,
        List(field) | LargeList(field) | ListView(field) | LargeListView(field) | Map(field, _) => {
            is_sized(field.data_type())
        }
        Struct(fields) => fields.iter().any(|field| is_sized(field.data_type())),
        Union(fields, _) => fields.iter().any(|(_, field)| is_sized(field.data_type())),
        Dictionary(key, value) => is_sized(key) || is_sized(value),
        RunEndEncoded(ends, values) => is_sized(ends.data_type()) || is_sized(values.data_type()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Fields};

    use super::*;

    #[test]
    fn a_sized_list_is_found_at_any_depth() {
        let sized = DataType::new_fixed_size_list(DataType::Int32, 3, true);
        let field = |data_type: &DataType| Arc::new(Field::new("a", data_type.clone(), true));
        let inner = [
            sized.clone(),
            DataType::new_list(sized.clone(), true),
            DataType::Struct(Fields::from(vec![field(&DataType::Utf8), field(&sized)])),
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(sized)),
        ];
        for data_type in &inner {
            assert!(check(data_type).is_err() && check(&DataType::List(field(data_type))).is_err(), "{data_type}");
        }
        let lists = DataType::new_list(DataType::new_list(DataType::Utf8, true), true);
        assert!(check(&lists).is_ok() && check(&DataType::Decimal256(76, 0)).is_ok());
    }
}
