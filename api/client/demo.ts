// What a program does with the client that is generated from the server's OpenAPI file: it signs in, pushes records, asks
// with SQL, and looks at views and at cases of drift. `make client` generates, compiles and runs it.
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const [baseUrl = "http://127.0.0.1:7400", email = "", password = ""] = process.argv.slice(2);
const api = createClient<paths, `application/${string}json`>({ baseUrl });

function must<T>({ data, error }: { data?: T; error?: components["schemas"]["Problem"] }): T {
  if (data === undefined) throw new Error(error ? `${error.code}: ${error.detail}` : "no answer");
  return data;
}

const session = must(await api.POST("/api/v1/auth/login", { body: { email, password } }));
api.use({
  onRequest: ({ request }) => request.headers.set("authorization", `Bearer ${session.access_token}`),
});
// Half-way through, somebody gives the amount another name: what lacks it is held, and a case waits.
const amount = (id: number) => ({ [id < 100 ? "Amount" : "Bla"]: id * 37 });
const deal = (id: number) => ({ Id: `D${id}`, Name: `Deal ${id}`, ...amount(id), LastModifiedDate: "2026-01-01T00:00:00Z" });
const pushed = must(
  await api.POST("/api/v1/records", {
    params: {
      query: { connection: "crm", stream: "opportunity", system: "salesforce" },
      header: { "Idempotency-Key": randomUUID() },
    },
    body: Array.from({ length: 150 }, (_, id) => deal(id)),
  }),
);
const sql = "select count(*) as deals, sum(amount) as total from opportunities";
const answer = must(await api.POST("/api/v1/query", { body: { sql, min_position: pushed.position } }));
const { views } = must(await api.GET("/api/v1/dcl/views"));
const { cases } = must(await api.GET("/api/v1/aam/cases", { params: { query: { status: "waiting" } } }));

console.log(`${session.user.email} of ${session.user.tenant} pushed ${pushed.records} records`);
console.log(`views: ${views.map((view) => `${view.name} (${view.rows ?? "?"} rows)`).join(", ")}`);
console.log(`answer: ${JSON.stringify(answer.rows)}`);
console.log(`cases: ${cases.map(({ status, lost, held }) => `${status}, ${lost.map((l) => l.path)} lost, ${held} held`).join("; ")}`);
