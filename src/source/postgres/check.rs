use crate::error::{Finding, Result};
pub async fn run(_: &super::Settings, _: &str, _: &str) -> Result<Vec<Finding>> { Ok(vec![]) }
