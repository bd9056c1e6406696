//! What stands between a command and its server: a proxy that passes requests on, and may meddle with some.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

/// A request as it came.
pub struct Request {
    pub method: String,
    pub path: String,
    head: Vec<String>,
    body: Vec<u8>,
}

/// What is done with a request.
pub enum Meddle {
    /// It goes on, and its answer comes back.
    Pass,
    /// It goes on, and its answer is lost.
    LoseAnswer,
    /// It goes on, and so much of its answer comes back.
    Cut(u64),
    /// It is answered here: status line, headers, body.
    Answer(String),
    /// It goes on with another path.
    Path(String),
    /// It goes on, and its answer comes back changed, head and body.
    Change(fn(String) -> String),
}

/// Stands between until the test ends. Answers its address.
pub fn between(server: &str, meddle: impl Fn(&Request) -> Meddle + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = server.strip_prefix("http://").unwrap().to_owned();
    let meddle = Arc::new(meddle);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (server, meddle) = (server.clone(), meddle.clone());
            // A side that goes away ends its own connection.
            std::thread::spawn(move || serve(&stream, &server, &*meddle).ok());
        }
    });
    address
}

fn serve(stream: &TcpStream, server: &str, meddle: &(impl Fn(&Request) -> Meddle + ?Sized)) -> std::io::Result<()> {
    let request = read(stream)?;
    let mut client = stream;
    let what = meddle(&request);
    if let Meddle::Answer(answer) = what {
        client.write_all(answer.as_bytes())?;
        return stream.shutdown(Shutdown::Both);
    }
    let path = if let Meddle::Path(path) = &what { path } else { &request.path };
    // Nobody may be there.
    let upstream = TcpStream::connect(server);
    let Ok(mut upstream) = upstream else { return stream.shutdown(Shutdown::Both) };
    let head = request.head.join("\r\n");
    write!(upstream, "{} {path} HTTP/1.1\r\n{head}\r\nconnection: close\r\n\r\n", request.method)?;
    upstream.write_all(&request.body)?;
    match what {
        Meddle::LoseAnswer => {
            upstream.read_to_end(&mut Vec::new())?;
        }
        Meddle::Change(change) => {
            let mut answer = String::new();
            upstream.read_to_string(&mut answer)?;
            client.write_all(change(answer).as_bytes())?;
        }
        Meddle::Cut(bytes) => {
            std::io::copy(&mut upstream.take(bytes), &mut client)?;
        }
        _ => {
            std::io::copy(&mut upstream, &mut client)?;
        }
    }
    stream.shutdown(Shutdown::Both)
}

fn read(stream: &TcpStream) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines.first().cloned().unwrap_or_default();
    first.truncate(first.trim_end_matches(" HTTP/1.1").len());
    let (method, path) = first.split_once(' ').unwrap_or_default();
    let length = lines.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let head = lines[1.min(lines.len())..].iter();
    let head = head.filter(|line| !line.to_ascii_lowercase().starts_with("connection:")).cloned().collect();
    Ok(Request { method: method.to_owned(), path: path.to_owned(), head, body })
}

/// An answer that refuses for now.
pub fn not_now(status: &str, code: &str, retry_after: u32) -> Meddle {
    let body =
        format!("{{\"code\":\"{code}\",\"detail\":\"not now\",\"trace_id\":\"00\",\"status\":{}}}", &status[..3]);
    Meddle::Answer(format!(
        "HTTP/1.1 {status}\r\nretry-after: {retry_after}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ))
}
