//! The OpenAPI document: paths from the route table, schemas from the JSON types.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::problem::PROBLEM_JSON;
use crate::route::{Method, OWN_LEVEL, Parameter, ParameterKind, Route};
use crate::{CommandReply, Event, LogEntry, LogLevel, Problem, ReloadReply, RotateReply, Status};

/// The OpenAPI 3.1 document of the API.
#[must_use]
pub fn openapi() -> Value {
    let mut paths = Map::new();
    for route in Route::ALL {
        let method = match route.method() {
            Method::Get => "get",
            Method::Post => "post",
        };
        paths.entry(route.path()).or_insert_with(|| json!({}))[method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "mainstay",
            "summary": "The control API of a running host",
            "description": "HTTP/1.1 with JSON on the host's control socket. Times are RFC 3339 in UTC; a value that is absent is null. Errors are problem documents (RFC 9457).",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": schemas() },
    })
}

fn operation(route: Route) -> Value {
    let mut parameters: Vec<Value> = route.parameters().iter().map(parameter).collect();
    if route.path().contains("{name}") {
        parameters.insert(
            0,
            json!({
                "name": "name", "in": "path", "required": true, "description": "the service",
                "schema": { "type": "string" },
            }),
        );
    }
    let mut responses = Map::new();
    match route {
        Route::Status => add(&mut responses, "200", "the state now", json_of::<Status>()),
        Route::Command(_) => {
            add(&mut responses, "200", "how the command ended", json_of::<CommandReply>());
            add(&mut responses, "202", "the command is taken", json_of::<CommandReply>());
        }
        Route::Reload => {
            add(&mut responses, "200", "how it ended, or the plan", json_of::<ReloadReply>());
            add(&mut responses, "202", "the changed file is taken", json_of::<ReloadReply>());
        }
        Route::Events => {
            add(&mut responses, "200", "the events; or each as it happens", list_or_stream::<Event>());
        }
        Route::Logs => {
            add(&mut responses, "200", "the lines; or each as it is written", list_or_stream::<LogEntry>());
        }
        Route::RotateLogs => {
            add(&mut responses, "200", "what became of each file", json_of::<RotateReply>());
        }
        Route::LogLevel | Route::SetLogLevel => {
            add(&mut responses, "200", "the level now", json_of::<LogLevel>());
        }
        Route::Metrics => add(&mut responses, "200", "the metrics", text()),
        Route::Healthz | Route::Readyz => add(&mut responses, "200", "yes", text()),
        Route::OpenApi => {
            add(
                &mut responses,
                "200",
                "the document",
                json!({ "application/json": { "schema": { "type": "object" } } }),
            );
        }
    }
    let problem = json!({ PROBLEM_JSON: { "schema": reference::<Problem>() } });
    add(&mut responses, "default", "it could not be done", problem);
    json!({
        "operationId": operation_id(route),
        "summary": route.summary(),
        "parameters": parameters,
        "responses": responses,
    })
}

fn operation_id(route: Route) -> &'static str {
    match route {
        Route::Status => "status",
        Route::Command(verb) => verb.as_str(),
        Route::Reload => "reload-file",
        Route::Events => "events",
        Route::Logs => "logs",
        Route::RotateLogs => "rotate-logs",
        Route::LogLevel => "log-level",
        Route::SetLogLevel => "set-log-level",
        Route::Metrics => "metrics",
        Route::Healthz => "healthz",
        Route::Readyz => "readyz",
        Route::OpenApi => "openapi",
    }
}

fn parameter(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        ParameterKind::Flag => json!({ "type": "boolean", "default": false }),
        ParameterKind::Integer { minimum } => json!({ "type": "integer", "minimum": minimum }),
        ParameterKind::Text => json!({ "type": "string" }),
        ParameterKind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        ParameterKind::Time => json!({ "type": "string", "format": "date-time" }),
        ParameterKind::Duration => json!({ "type": "string", "examples": ["10s", "2m", "500ms"] }),
        ParameterKind::Word(words) => json!({ "type": "string", "enum": words }),
    };
    // The one without which there is nothing to be done.
    let required = *parameter == OWN_LEVEL;
    json!({ "name": parameter.name, "in": "query", "required": required, "description": parameter.doc, "schema": schema })
}

fn add(responses: &mut Map<String, Value>, status: &str, description: &str, content: Value) {
    let mut response = Map::new();
    response.insert("description".to_owned(), description.into());
    response.insert("content".to_owned(), content);
    responses.insert(status.to_owned(), response.into());
}

fn text() -> Value {
    json!({ "text/plain": { "schema": { "type": "string" } } })
}

fn json_of<T: ToSchema>() -> Value {
    json!({ "application/json": { "schema": reference::<T>() } })
}

fn list_or_stream<T: ToSchema>() -> Value {
    let list = json!({ "schema": { "type": "array", "items": reference::<T>() } });
    let stream = json!({
        "schema": { "type": "string", "description": format!("server-sent events; data is one {} as JSON", T::name()) },
    });
    json!({ "application/json": list, "text/event-stream": stream })
}

fn reference<T: ToSchema>() -> Value {
    json!({ "$ref": format!("#/components/schemas/{}", T::name()) })
}

/// The schemas of everything the routes answer, and of what those are made of.
fn schemas() -> Map<String, Value> {
    let mut found = Vec::new();
    fn collect<T: ToSchema>(found: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        found.push((T::name().into_owned(), T::schema()));
        T::schemas(found);
    }
    collect::<Status>(&mut found);
    collect::<CommandReply>(&mut found);
    collect::<ReloadReply>(&mut found);
    collect::<Event>(&mut found);
    collect::<LogEntry>(&mut found);
    collect::<RotateReply>(&mut found);
    collect::<LogLevel>(&mut found);
    collect::<Problem>(&mut found);
    // A schema is plain data; it always becomes JSON. One that did not would fail the test of this file.
    found.into_iter().map(|(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default())).collect()
}
