// A durable consumer: prints a line of JSON for every change, and acknowledges what it has printed.
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import * as grpc from "@grpc/grpc-js";
import * as loader from "@grpc/proto-loader";

// 64-bit numbers come as text: JavaScript's hold 53 bits.
const protos = fileURLToPath(new URL("../../../proto", import.meta.url));
const definition = loader.loadSync("walbrook/v1/stream.proto", {
  includeDirs: [protos],
  enums: String,
  longs: String,
  oneofs: true,
  defaults: true,
  arrays: true,
  keepCase: true,
});
const { walbrook } = grpc.loadPackageDefinition(definition) as any;

type Value = { kind?: string; [form: string]: any };
type Schema = { reference: number; namespace: string; name: string; columns: { name: string }[] };
type Transaction = { order: Buffer; changes: Change[] };
type Row = { values: Value[] } | null;
type Change = { operation: string; schema: number; ordinal: string; before: Row; after: Row };
type Batch = { number: string; origin: string; schemas: Schema[]; transactions: Transaction[] };

/** A cell as JSON has it; a program would keep decimals and 64-bit integers in types that hold them. */
function value(cell: Value): unknown {
  switch (cell.kind) {
    case "special":
      return { SPECIAL_INFINITY: "infinity", SPECIAL_NEGATIVE_INFINITY: "-infinity" }[cell.special as string] ?? null;
    case "array":
      return cell.array.elements.map(value);
    case "bytes":
      return cell.bytes.toString("base64");
    case "uuid":
      return cell.uuid.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
    case "json":
      return JSON.parse(cell.json);
    case "integer":
    case "unsigned":
      return Number.isSafeInteger(Number(cell[cell.kind])) ? Number(cell[cell.kind]) : cell[cell.kind];
    default: // boolean, floats, decimal, text; days and microseconds since 1970
      return cell.kind === undefined ? null : cell[cell.kind];
  }
}

/** Column by column, without what did not come: what is unchanged or missing is not NULL. */
function row(schema: Schema, values: Value[]): Record<string, unknown> {
  const came = (cell: Value) => !["SPECIAL_UNCHANGED", "SPECIAL_MISSING"].includes(cell.special);
  const pairs = values.map((cell, column) => [schema.columns[column]!.name, cell] as const);
  return Object.fromEntries(pairs.filter(([, cell]) => came(cell)).map(([name, cell]) => [name, value(cell)]));
}

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    consumer: { type: "string" },
    snapshot: { type: "boolean", default: false },
    tables: { type: "string", multiple: true, default: [] },
    token: { type: "string" },
    limit: { type: "string", default: "0" },
  },
});
const [address] = positionals;
if (address === undefined || options.consumer === undefined) {
  console.error("usage: node consume.js HOST:PORT --consumer NAME [--snapshot] [--tables PATTERN] [--token T] [--limit N]");
  process.exit(2);
}
const limit = Number(options.limit);
let printed = 0;
/** The order key of the last change printed: what comes again is not behind it. */
let last: { order: Buffer; ordinal: bigint } = { order: Buffer.alloc(0), ordinal: 0n };

function print(origin: string, transaction: Transaction, change: Change, schemas: Map<number, Schema>): void {
  if (origin === "ORIGIN_STREAM") {
    const ordinal = BigInt(change.ordinal);
    const order = Buffer.compare(transaction.order, last.order);
    if (order < 0 || (order === 0 && ordinal <= last.ordinal)) return;
    last = { order: transaction.order, ordinal };
  }
  const line: Record<string, unknown> = { op: change.operation.replace("OPERATION_", "").toLowerCase() };
  const schema = schemas.get(change.schema);
  if (schema !== undefined) {
    line.table = `${schema.namespace}.${schema.name}`;
    if (change.before) line.before = row(schema, change.before.values);
    if (change.after) line.after = row(schema, change.after.values);
  }
  process.stdout.write(JSON.stringify(line) + "\n");
  printed += 1;
}

/** One call, until it ends. */
function subscribe(client: any, metadata: grpc.Metadata): Promise<void> {
  const schemas = new Map<number, Schema>();
  const call = client.Subscribe(metadata);
  call.write({
    open: {
      consumer: options.consumer,
      start: "START_STORED",
      otherwise: options.snapshot ? "START_SNAPSHOT" : "START_LATEST",
      filter: { tables: options.tables },
    },
  });
  return new Promise((resolve, reject) => {
    let done = false;
    call.on("data", (response: { opened?: { epoch: string }; batch?: Batch }) => {
      if (response.opened) console.error(`open, epoch ${response.opened.epoch}`);
      const batch = response.batch;
      if (!batch) return;
      for (const schema of batch.schemas) schemas.set(schema.reference, schema);
      for (const transaction of batch.transactions) {
        for (const change of transaction.changes) print(batch.origin, transaction, change, schemas);
      }
      // Here the work is durable; now the batch may be acknowledged, and not before.
      call.write({ ack: { number: batch.number } });
      if (limit > 0 && printed >= limit && !done) {
        done = true;
        call.end(); // Nothing more from us: the server takes the last Ack and ends the call.
      }
    });
    call.on("error", reject);
    call.on("end", resolve);
  });
}

const client = new walbrook.v1.ChangeStream(address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
if (options.token) metadata.set("authorization", `Bearer ${options.token}`);
let waitMs = 100;
while (limit === 0 || printed < limit) {
  const before = printed;
  try {
    await subscribe(client, metadata);
  } catch (error) {
    const { code, details } = error as grpc.ServiceError;
    console.error(`${grpc.status[code]}: ${details}`);
    // Anything else wants a decision: see the comments of Subscribe.
    if (code !== grpc.status.UNAVAILABLE) process.exit(1);
  }
  waitMs = printed > before ? 100 : Math.min(2 * waitMs, 10_000);
  if (limit === 0 || printed < limit) await new Promise((resolve) => setTimeout(resolve, waitMs * (0.5 + Math.random() / 2)));
}
client.close();
