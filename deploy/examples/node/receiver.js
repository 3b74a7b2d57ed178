// Receives events, acts on each once, however often it comes, and only on those that the worker has signed.
//
// usage: node receiver.js PORT        (DATABASE_URL is the PostgreSQL database)
//
// An event adds an amount to an account: {"account": "ada", "amount": 10}. The effect and the idempotency key are
// written in one transaction, so that there is never one without the other. Needs pg and standardwebhooks (npm ci), and
// SIGNING_SECRET, one of the worker's --signing-secrets.
"use strict";

const http = require("node:http");
const { Pool } = require("pg");
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

const SCHEMA = `
  create table if not exists handled (key text primary key, at timestamptz not null default now());
  create index if not exists handled_at on handled (at);
  create table if not exists account (name text primary key, balance bigint not null check (balance >= 0));
`;
const BODY_LIMIT = 1024 * 1024;

// The worker waits for 5 s: whatever takes longer is done in vain.
if (!process.env.SIGNING_SECRET) {
  console.error("usage: SIGNING_SECRET=whsec_… DATABASE_URL=postgres://… node receiver.js PORT");
  process.exit(1);
}
const signed = new Webhook(process.env.SIGNING_SECRET);
const pool = new Pool({
  connectionString: process.env.DATABASE_URL,
  connectionTimeoutMillis: 2_000,
  statement_timeout: 2_000,
});
pool.on("error", () => {}); // an idle connection broke; the pool opens another

/** Whether the event was new. When it resolves, effect and key are committed; when it rejects, ask again. */
async function handle(key, event) {
  const client = await pool.connect();
  let failure;
  try {
    await client.query("begin");
    // Of two requests with one key, the second waits here until the first is committed or rolled back.
    const { rowCount } = await client.query("insert into handled (key) values ($1) on conflict do nothing", [key]);
    if (rowCount === 1) {
      await client.query("insert into account (name, balance) values ($1, 0) on conflict do nothing", [event.account]);
      const added = "update account set balance = balance + $2 where name = $1";
      await client.query(added, [event.account, event.amount]);
      // Longer than the worker's --retention: after that, it never sends an old event.
      await client.query("delete from handled where at < now() - interval '8 days'");
    }
    await client.query("commit");
    return rowCount === 1;
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    client.release(failure); // after a failure the connection is closed, and that rolls back
  }
}

async function bodyOf(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > BODY_LIMIT) throw new Error("the body is larger than 1 MiB");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function answer(request) {
  if (request.method === "GET") {
    const { rows } = await pool.query("select balance from account where name = $1", [request.url.slice(1)]);
    return rows.length === 1 ? [200, rows[0].balance] : [404, "no such account"];
  }
  const key = request.headers["idempotency-key"];
  if (!key) return [400, "an idempotency-key, please"];
  const body = await bodyOf(request);
  try {
    // Before anything else, and on the bytes as they came. It refuses what is older than five minutes, too.
    signed.verify(body, request.headers, { jsonParse: false });
    // The signature is for this header, not for the other.
    if (request.headers["webhook-id"] !== key) throw new WebhookVerificationError("two different keys");
  } catch (error) {
    if (error instanceof WebhookVerificationError) return [401, `not signed by the worker: ${error.message}`];
    throw error;
  }
  const isNew = await handle(key, JSON.parse(body));
  // A known key is a success: any other answer would bring it again.
  return [200, isNew ? "done" : "done before"];
}

const server = http.createServer((request, response) => {
  // Whatever it is: not done, so let it come again.
  const failed = (error) => [500, error.message];
  answer(request).catch(failed).then(([status, text]) => response.writeHead(status).end(`${text}\n`));
});
// The worker closes idle connections after 30 s. Who closes them sooner can cut off a request.
server.keepAliveTimeout = 60_000;

async function main() {
  await pool.query(SCHEMA);
  server.listen(Number(process.argv[2]), "127.0.0.1", () => {
    console.log(`listening on http://127.0.0.1:${server.address().port}`);
  });
}

main().catch((error) => {
  console.error(`receiver: ${error.message}`);
  process.exit(1);
});
