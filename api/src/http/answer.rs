//! Rows as an answer: in the format that the client accepts, streamed batch by batch.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::{Any, Type};
use poem_openapi::{ApiResponse, Object};
use projections::QueryError;
use projections::sql::engine::BatchStream;
use projections::sql::{Format, QueryResult, ResultWriter};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::manners::etag::Streamed;
use super::problem::Problem;

/// Rows in JSON.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct RowsBody {
    /// The rows, each an object by column. Decimals are texts, times RFC 3339.
    rows: Vec<BTreeMap<String, Any<serde_json::Value>>>,
    /// For the next page; absent at the end, and for queries.
    next: Option<String>,
}

/// The formats that rows are given in, and how JSON is documented.
const FORMATS: [Format; 4] = [Format::Json, Format::Csv, Format::Arrow, Format::Parquet];

fn media_type(format: Format) -> &'static str {
    match format {
        Format::Csv => "text/csv",
        other => other.media_type(),
    }
}

/// The format that a client accepts best: the header `Accept` after RFC 9110, JSON when it does not care.
pub fn accepted(accept: Option<&str>) -> Result<Format, Problem> {
    let Some(accept) = accept.filter(|a| !a.trim().is_empty()) else { return Ok(Format::Json) };
    let mut best: Option<(u32, Format)> = None;
    for part in accept.split(',') {
        let mut parameters = part.split(';').map(str::trim);
        let range = parameters.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parameters.find_map(|p| p.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
        let Some(quality) = quality.filter(|q| *q > 0.0) else { continue };
        let found = match range.as_str() {
            "*/*" | "application/*" => Some(Format::Json),
            "text/*" => Some(Format::Csv),
            range => FORMATS.into_iter().find(|f| media_type(*f) == range),
        };
        let rank = (quality * 1000.0) as u32;
        if let Some(format) = found
            && best.is_none_or(|(other, _)| rank > other)
        {
            best = Some((rank, format));
        }
    }
    best.map(|(_, format)| format).ok_or_else(|| {
        let known = FORMATS.map(media_type).join(", ");
        Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", format!("rows are given as {known}"))
    })
}

/// Rows on their way to a client.
pub struct Rows {
    response: Response,
}

impl Rows {
    /// The whole result of a query, streamed. An error before the first row is a problem; a later one breaks the answer
    /// off, so that no client takes a part for the whole; so does a client that has not taken it all by `until`, and the
    /// query's place is free then, however slowly the client reads on.
    pub async fn stream(result: QueryResult, format: Format, until: Instant) -> Result<Self, Problem> {
        let spool = Spool::default();
        let mut batches = result.batches;
        let first = batches.next().await.transpose()?;
        let mut writer = new_writer(format, result.schema, &spool)?;
        if let Some(batch) = first {
            writer.write(&batch).map_err(Problem::internal)?;
        }
        let state = Streaming { batches, writer: Some(writer), spool, format, has_begun: false };
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(hand_over(state, sender, until));
        let parts = futures::stream::unfold(receiver, |mut parts| async move { Some((parts.recv().await?, parts)) });
        let mut response = respond(format, Body::from_bytes_stream::<_, Bytes, std::io::Error>(parts));
        response.set_data(Streamed);
        Ok(Self { response })
    }

    /// A page that is held whole, with what leads to the next.
    pub fn page(
        batches: &[arrow::array::RecordBatch],
        schema: arrow::datatypes::SchemaRef,
        format: Format,
        next: Option<&str>,
    ) -> Result<Self, Problem> {
        let spool = Spool::default();
        let mut writer = new_writer(format, schema, &spool)?;
        for batch in batches {
            writer.write(batch).map_err(Problem::internal)?;
        }
        writer.finish().map_err(Problem::internal)?;
        let mut bytes = spool.take();
        if format == Format::Json {
            bytes = [open_json(), &bytes, &close_json(next)].concat();
        }
        let mut response = respond(format, Body::from_vec(bytes));
        if let Some(next) = next.and_then(|next| HeaderValue::from_str(next).ok()) {
            response.headers_mut().insert("next-cursor", next);
        }
        Ok(Self { response })
    }
}

fn open_json() -> &'static [u8] {
    b"{\"rows\":"
}

fn close_json(next: Option<&str>) -> Vec<u8> {
    let next = next.map_or_else(String::new, |next| format!(",\"next\":{}", serde_json::Value::from(next)));
    format!("{next}}}\n").into_bytes()
}

fn new_writer(
    format: Format,
    schema: arrow::datatypes::SchemaRef,
    spool: &Spool,
) -> Result<ResultWriter<Spool>, Problem> {
    let writer = ResultWriter::new(format, schema, spool.clone()).map_err(Problem::internal)?;
    // What a spreadsheet opens must not run.
    Ok(writer.escape_formulas(true))
}

fn respond(format: Format, body: Body) -> Response {
    Response::builder().header(header::CONTENT_TYPE, format.media_type()).body(body)
}

/// Where a writer puts what is to be sent next.
#[derive(Clone, Default)]
struct Spool(Arc<Mutex<Vec<u8>>>);

impl Spool {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Streaming {
    batches: BatchStream,
    /// None once the result is finished.
    writer: Option<ResultWriter<Spool>>,
    spool: Spool,
    format: Format,
    has_begun: bool,
}

impl Streaming {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let is_json = self.format == Format::Json;
        loop {
            let mut bytes = self.spool.take();
            if !self.has_begun && is_json {
                bytes = [open_json(), &bytes].concat();
            }
            self.has_begun = true;
            if !bytes.is_empty() {
                return Ok(Some(bytes.into()));
            }
            let Some(writer) = self.writer.as_mut() else { return Ok(None) };
            match self.batches.next().await {
                Some(Ok(batch)) => writer.write(&batch).map_err(std::io::Error::other)?,
                Some(Err(error)) => return Err(broken_off(error)),
                None => {
                    if let Some(writer) = self.writer.take() {
                        writer.finish().map_err(std::io::Error::other)?;
                    }
                    if is_json {
                        self.spool.write_all(&close_json(None))?;
                    }
                }
            }
        }
    }
}

/// Hands part after part over, until the client has gone or its time is over.
async fn hand_over(mut state: Streaming, parts: mpsc::Sender<std::io::Result<Bytes>>, until: Instant) {
    let handing = async {
        loop {
            let next = tokio::select! {
                next = state.next() => next,
                () = parts.closed() => return,
            };
            let Some(part) = next.transpose() else { return };
            let is_last = part.is_err();
            if parts.send(part).await.is_err() || is_last {
                return;
            }
        }
    };
    let is_late = tokio::time::timeout_at(until, handing).await.is_err();
    // The answer ends with `parts`: whoever has all of it finds the query's place free, and its name.
    drop(state);
    if is_late {
        _ = parts.send(Err(std::io::Error::other("the client did not take the result in time"))).await;
    }
}

fn broken_off(error: QueryError) -> std::io::Error {
    tracing::info!(%error, "a query broke off while its rows were being sent");
    std::io::Error::other(error)
}

impl IntoResponse for Rows {
    fn into_response(self) -> Response {
        self.response
    }
}

impl ApiResponse for Rows {
    fn meta() -> MetaResponses {
        let text = || MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
        let binary = || MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "binary")));
        let content = FORMATS.map(|format| MetaMediaType {
            content_type: media_type(format),
            schema: match format {
                Format::Json => RowsBody::schema_ref(),
                Format::Csv | Format::Table => text(),
                Format::Arrow | Format::Parquet => binary(),
            },
        });
        let response = MetaResponse {
            description: "The rows, in the format that Accept names",
            status: Some(200),
            status_range: None,
            content: content.into(),
            headers: vec![next_cursor()],
        };
        MetaResponses { responses: vec![response] }
    }

    fn register(registry: &mut Registry) {
        <poem_openapi::payload::Json<RowsBody> as Payload>::register(registry);
    }
}

/// Only JSON has room for it in the body.
fn next_cursor() -> MetaHeader {
    MetaHeader {
        name: "Next-Cursor".into(),
        description: Some("The cursor of the next page; absent at the end, and for queries".into()),
        required: false,
        deprecated: false,
        schema: String::schema_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_the_client_likes_best() {
        assert_eq!(accepted(None).unwrap(), Format::Json);
        assert_eq!(accepted(Some("text/csv")).unwrap(), Format::Csv);
        assert_eq!(accepted(Some("text/html, */*;q=0.1")).unwrap(), Format::Json);
        assert_eq!(accepted(Some("text/csv;q=0.2, application/vnd.apache.parquet;q=0.9")).unwrap(), Format::Parquet);
        assert!(accepted(Some("image/png")).is_err());
        assert!(accepted(Some("text/csv;q=0")).is_err());
    }
}
