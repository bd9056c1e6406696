//! A language model that speaks OpenAI's protocol on a socket of its own, and says what a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use api::serve::llm::Llm;
use serde_json::{Value, json};

/// What it answers.
#[derive(Debug, Clone)]
pub enum Said {
    /// This text, as an answer to what it was asked.
    Text(String),
    /// This body as JSON, with this status.
    Body(u16, String),
    /// Nothing, until whoever asks goes away.
    Nothing,
}

type Questions = Arc<Mutex<Vec<Value>>>;

/// A running model.
pub struct Model {
    address: SocketAddr,
    questions: Questions,
}

impl Model {
    /// One that answers requests so.
    pub fn answering(say: impl Fn(&Value) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (questions, say) = (Questions::default(), Arc::new(say));
        let noted = questions.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (noted, say) = (noted.clone(), say.clone());
                std::thread::spawn(move || serve(stream, &noted, &*say));
            }
        });
        Self { address, questions }
    }

    /// How it is configured, and more.
    pub fn llm(&self, more: &str) -> Llm {
        let place = format!("provider: openai, model: stub, url: 'http://{}/v1/'", self.address);
        let text = format!("{{{place}, input_price: 1.5, output_price: 6{more}}}");
        serde_saphyr::from_str::<Llm>(&text).unwrap().checked(std::path::Path::new(".")).unwrap()
    }

    /// Everything that it was asked.
    pub fn questions(&self) -> Vec<Value> {
        self.questions.lock().unwrap().clone()
    }
}

/// The fields that a request asks about: those that are lost, and those that came.
pub fn asked(request: &Value) -> (Vec<Value>, Vec<Value>) {
    let text = request["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
    let question: Value = serde_json::from_str(text).unwrap();
    let fields = |name: &str| question[name].as_array().unwrap().clone();
    (fields("lost"), fields("added"))
}

/// An answer that says that these fields are at those places.
pub fn moves(moves: &[(&str, &str)]) -> Said {
    let moves: Vec<Value> = moves.iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
    Said::Text(json!({ "moves": moves }).to_string())
}

fn serve(mut stream: TcpStream, noted: &Questions, say: &dyn Fn(&Value) -> Said) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let request: Value = serde_json::from_slice(&body).ok()?;
        noted.lock().unwrap().push(request.clone());
        let (status, body) = match say(&request) {
            Said::Text(text) => (200, completion(&text)),
            Said::Body(status, body) => (status, body),
            Said::Nothing => {
                // It ends when the other side hangs up.
                reader.read_exact(&mut [0]).ok()?;
                return None;
            }
        };
        let head = format!(
            "HTTP/1.1 {status} said\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
    }
}

fn completion(text: &str) -> String {
    let message = json!({"role": "assistant", "content": text});
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100});
    let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
    json!({"id": "x", "object": "chat.completion", "model": "stub", "choices": choices, "usage": usage}).to_string()
}
