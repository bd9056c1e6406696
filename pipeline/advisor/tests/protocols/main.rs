//! Each provider's protocol on a real socket: what is sent, what is read, what is told of what goes wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use advisor::{GenaiAdvisor, Provider, Settings};
use pipeline::advice::{Advisor, AdvisorError, FieldAsked, Price, Prompt, Question};

/// A server that answers one request with this, or holds it; gives the request.
fn serve(answer: Option<String>) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (sender, receiver) = mpsc::channel();
    let address = format!("http://{}/base/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let _ = sender.send(head + &String::from_utf8(body).unwrap());
        match answer {
            Some(answer) => stream.write_all(answer.as_bytes()).unwrap(),
            // It ends when the other side hangs up.
            None => _ = reader.read(&mut [0]),
        }
    });
    (address, receiver)
}

fn answer(status: u16, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status} said\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"))
}

/// A time that no machine is too slow for, and one that is soon over.
const LONG: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_millis(300);

fn advisor(provider: Provider, url: String, timeout: Duration) -> GenaiAdvisor {
    let price = Price { input: 1, output: 1 };
    let (model, key) = ("small".to_owned(), Some("s3cret".to_owned()));
    GenaiAdvisor::new(Settings { provider, model, url: Some(url), key, price, timeout }).unwrap()
}

fn prompt() -> Prompt {
    let field = |name: &str| FieldAsked { name: name.into(), kind: "number".into(), ..FieldAsked::default() };
    Question { entity: "order".into(), lost: vec![field("Total")], added: vec![field("Sum")] }.prompt()
}

type Reply = Result<(String, u64, u64), AdvisorError>;

/// The reply, and where the request comes. Who holds the answer back is not waited for.
async fn ask(provider: Provider, said: Option<String>) -> (Reply, mpsc::Receiver<String>) {
    let timeout = if said.is_some() { LONG } else { SHORT };
    let (url, request) = serve(said);
    let reply = advisor(provider, url, timeout).ask(&prompt()).await;
    (reply.map(|reply| (reply.text, reply.input_tokens, reply.output_tokens)), request)
}

#[tokio::test]
async fn each_provider_is_asked_in_its_own_protocol_with_a_schema_for_the_answer() {
    let openai = r#"{"choices":[{"message":{"role":"assistant","content":"said"}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
    let gemini = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"said"}]}}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":3,"totalTokenCount":10}}"#;
    let anthropic = r#"{"content":[{"type":"text","text":"said"}],"usage":{"input_tokens":7,"output_tokens":3}}"#;
    for (provider, body, path) in [
        (Provider::OpenAi, openai, "/base/chat/completions"),
        (Provider::Gemini, gemini, "/base/models/small:generateContent"),
        (Provider::Ollama, openai, "/base/chat/completions"),
        (Provider::Anthropic, anthropic, "/base/messages"),
    ] {
        let (reply, request) = ask(provider, answer(200, body)).await;
        assert_eq!(reply, Ok(("said".to_owned(), 7, 3)), "{}", provider.name());
        let request = request.recv().unwrap();
        assert!(request.starts_with(&format!("POST {path}")), "{request}");
        assert!(request.contains("Total") && request.contains("\"enum\""), "{request}");
    }
}

#[tokio::test]
async fn what_goes_wrong_is_told_without_what_the_other_side_said() {
    let redirect = "HTTP/1.1 302 said\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n".to_owned();
    for (said, wrong) in [
        (None, AdvisorError::TimedOut),
        (answer(429, "s3cret"), AdvisorError::Limited),
        (answer(500, "s3cret"), AdvisorError::Failed("it answered 500 Internal Server Error".into())),
        (Some(redirect), AdvisorError::Failed("it answered 302 Found".into())),
        (answer(200, "s3cret"), AdvisorError::Lost("it could not be reached, or answered what is no answer".into())),
        (Some("no HTTP".into()), AdvisorError::Lost("it could not be reached, or answered what is no answer".into())),
    ] {
        assert_eq!(ask(Provider::OpenAi, said).await.0, Err(wrong));
    }
}

#[tokio::test]
async fn a_model_that_is_not_there_was_not_asked() {
    // Nobody is given this port, and nobody listens there.
    let reply = advisor(Provider::OpenAi, "http://127.0.0.1:1".to_owned(), LONG).ask(&prompt()).await;
    assert_eq!(reply.map(|reply| reply.text), Err(AdvisorError::Failed("it could not be reached".into())));
}
