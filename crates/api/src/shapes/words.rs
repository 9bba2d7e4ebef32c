//! States, phases and levels in JSON: the words of `types`, which carries no serde itself.

/// A module for `#[serde(with)]` and a function for `#[schema(schema_with)]` over a closed list of words.
macro_rules! words {
    ($module:ident, $type:ty, $all:expr, $what:literal) => {
        pub(crate) mod $module {
            use serde::de::Error;
            use serde::{Deserialize, Deserializer, Serializer};
            use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

            pub(crate) fn serialize<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(value.as_str())
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let word = std::borrow::Cow::<str>::deserialize(deserializer)?;
                $all.into_iter()
                    .find(|value: &$type| value.as_str() == word)
                    .ok_or_else(|| D::Error::custom(format_args!(concat!("{:?} is no ", $what), word)))
            }

            pub(crate) fn schema() -> Object {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .enum_values(Some($all.into_iter().map(|value: $type| value.as_str())))
                    .build()
            }
        }
    };
}

words!(state, mainstay_types::State, mainstay_types::State::ALL, "state");
words!(
    phase,
    mainstay_types::Phase,
    [
        mainstay_types::Phase::Initializing,
        mainstay_types::Phase::Running,
        mainstay_types::Phase::ShuttingDown,
        mainstay_types::Phase::Terminated,
    ],
    "phase"
);

/// A level, or `null`.
pub(crate) mod maybe_level {
    use mainstay_types::Level;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

    #[expect(clippy::ref_option, reason = "the shape that serde asks for")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<Level>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Level::as_str).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Level>, D::Error> {
        let word = Option::<std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        word.map(|word| word.parse().map_err(D::Error::custom)).transpose()
    }

    pub(crate) fn schema() -> Object {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .enum_values(Some(Level::ALL.into_iter().map(|level| Some(level.as_str())).chain([None])))
            .build()
    }
}
