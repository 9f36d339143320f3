//! Azure OpenAI, as far as chat completions go. A completion says who asked and repeats the
//! question; as an event stream it does so word by word.
//!
//! | request | answer |
//! |---|---|
//! | `POST /openai/v1/chat/completions` | by the `model` of the body |
//! | `POST /openai/deployments/{name}/chat/completions?api-version=2024-10-21` | by the deployment of the path |
//! | `POST /models/chat/completions?api-version=2024-05-01-preview` | by the `model` of the body, as Azure AI Inference |
//!
//! There are three deployments: `gpt-4o` answers, `gpt-4o-slow` lets time pass before each event of
//! a stream, and `gpt-4o-busy` is over its rate limit.
//! <https://learn.microsoft.com/azure/ai-services/openai/reference>

use std::time::Duration;

use serde_json::{Value, json};

use crate::directory::COGNITIVE_SERVICES;
use crate::message::{Answer, Framing, Request};
use crate::random::guid;
use crate::state::State;
use crate::time::now;
use crate::verify;

const DEPLOYMENTS: [&str; 3] = ["gpt-4o", "gpt-4o-slow", "gpt-4o-busy"];

/// The members of a request that are known here; OpenAI refuses others.
const MEMBERS: [&str; 12] = [
    "model", "messages", "stream", "stream_options", "temperature", "top_p", "n", "stop", "seed", "user", "max_tokens",
    "max_completion_tokens",
];

/// Answers a request for Azure OpenAI.
pub fn answer(state: &State, request: &Request) -> Answer {
    let answer = complete(state, request).unwrap_or_else(|refused| refused);
    answer.header("apim-request-id", guid()).header("x-ratelimit-limit-requests", "100")
}

fn complete(state: &State, request: &Request) -> Result<Answer, Answer> {
    let token = verify::bearer(state, request, COGNITIVE_SERVICES).map_err(|reason| unauthorized(&reason))?;
    if request.header("api-key").is_some() {
        return Err(unauthorized("a key came beside the token"));
    }
    let asked = Asked::of(request)?;
    if asked.deployment == "gpt-4o-busy" {
        let text = "Requests to the ChatCompletions_Create Operation have exceeded the call rate limit.";
        return Err(refusal(429, "429", None, text).header("Retry-After", "1"));
    }
    let content = format!("{} asked: {}", verify::subject(&token), asked.question);
    Ok(if asked.stream { stream(&asked, &content) } else { whole(&asked, &content) })
}

/// A request that was understood.
struct Asked {
    deployment: String,
    question: String,
    stream: bool,
    include_usage: bool,
}

impl Asked {
    fn of(request: &Request) -> Result<Self, Answer> {
        let segments = request.segments();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let named = match segments.as_slice() {
            ["openai", "v1", "chat", "completions"] => None,
            ["openai", "deployments", name, "chat", "completions"]
                if request.query_value("api-version").as_deref() == Some("2024-10-21") =>
            {
                Some((*name).to_owned())
            }
            ["models", "chat", "completions"]
                if request.query_value("api-version").as_deref() == Some("2024-05-01-preview") =>
            {
                None
            }
            _ => return Err(refusal(404, "404", None, "Resource not found")),
        };
        if request.method != "POST" {
            return Err(refusal(405, "405", None, "Method not allowed"));
        }
        if request.header("content-type").is_none_or(|value| value != "application/json") {
            return Err(refusal(415, "unsupported_content_type", None, "The body is not application/json."));
        }
        let Ok(Value::Object(body)) = serde_json::from_slice(&request.body) else {
            return Err(refusal(400, "invalid_json", None, "We could not parse the JSON body of your request."));
        };
        if let Some(name) = body.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
            let text = format!("Unrecognized request argument supplied: {name}");
            return Err(refusal(400, "unknown_parameter", Some(name), &text));
        }
        let Some(deployment) = named.or_else(|| body.get("model")?.as_str().map(str::to_owned)) else {
            return Err(missing("model"));
        };
        if !DEPLOYMENTS.contains(&deployment.as_str()) {
            let text = "The API deployment for this resource does not exist.";
            return Err(refusal(404, "DeploymentNotFound", None, text));
        }
        let messages = body.get("messages").and_then(Value::as_array).ok_or_else(|| missing("messages"))?;
        let question = question(messages)
            .ok_or_else(|| refusal(400, "invalid_type", Some("messages"), "Invalid type for 'messages'."))?;
        let flag = |value: Option<&Value>| value.and_then(Value::as_bool) == Some(true);
        Ok(Self {
            deployment,
            question,
            stream: flag(body.get("stream")),
            include_usage: flag(body.get("stream_options").and_then(|options| options.get("include_usage"))),
        })
    }
}

/// The text of the last message, which must be the user's.
fn question(messages: &[Value]) -> Option<String> {
    let role = |message: &Value| {
        let role =
            message.get("role")?.as_str().filter(|role| ["system", "developer", "user", "assistant"].contains(role));
        Some((role?.to_owned(), message.get("content")?.as_str()?.to_owned()))
    };
    let messages: Vec<_> = messages.iter().map(role).collect::<Option<_>>()?;
    messages.into_iter().next_back().filter(|(role, _)| role == "user").map(|(_, content)| content)
}

fn usage(content: &str) -> Value {
    let words = content.split(' ').count();
    json!({"prompt_tokens": 1, "completion_tokens": words, "total_tokens": words + 1})
}

fn whole(asked: &Asked, content: &str) -> Answer {
    let message = json!({"role": "assistant", "content": content, "refusal": null});
    let body = json!({
        "id": "chatcmpl-local", "object": "chat.completion", "created": now(), "model": asked.deployment,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
        "usage": usage(content),
    });
    Answer::json(200, &body)
}

fn stream(asked: &Asked, content: &str) -> Answer {
    let chunk = |choices: Value| {
        json!({
            "id": "chatcmpl-local", "object": "chat.completion.chunk", "created": now(), "model": asked.deployment,
            "choices": choices,
        })
    };
    let piece = |delta: Value, finish: Option<&str>| {
        chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]))
    };
    // Azure says first what its filter makes of the prompt, in a chunk without choices.
    let mut chunks = vec![chunk(json!([])), piece(json!({"role": "assistant", "content": ""}), None)];
    chunks.extend(content.split_inclusive(' ').map(|word| piece(json!({"content": word}), None)));
    chunks.push(piece(json!({}), Some("stop")));
    if asked.include_usage {
        let mut last = chunk(json!([]));
        last["usage"] = usage(content);
        chunks.push(last);
    }
    let events = chunks.iter().map(Value::to_string).chain(["[DONE]".to_owned()]);
    let body = events.map(|event| ["data: ", &event, "\n\n"].concat()).collect::<String>();
    let pause_before_body = Duration::from_millis(if asked.deployment == "gpt-4o-slow" { 250 } else { 0 });
    Answer { framing: Framing::Events, pause_before_body, ..Answer::of(200, "text/event-stream; charset=utf-8", body) }
}

fn unauthorized(reason: &str) -> Answer {
    refusal(401, "Unauthorized", None, &format!("Access token is missing, invalid, or for another audience: {reason}."))
}

fn missing(parameter: &str) -> Answer {
    let text = format!("Missing required parameter: '{parameter}'.");
    refusal(400, "missing_required_parameter", Some(parameter), &text)
}

/// An error as OpenAI's SDKs read it.
fn refusal(status: u16, code: &str, parameter: Option<&str>, text: &str) -> Answer {
    let error = json!({"message": text, "type": "invalid_request_error", "param": parameter, "code": code});
    Answer::json(status, &json!({"error": error}))
}
