// The whole protocol of a plugin without the SDK, as a pattern for other languages: find the broker and make it prove itself,
// shake hands, open the stream, register, acknowledge what comes, send, and come back when the stream is lost.
//
//   node examples/plain-client.mjs [account] [token] [agent]      default loopback me
//
// Each line of the standard input, "<address> <text>", is sent; what comes is printed, a JSON object a line.
import { createHash, createHmac, randomBytes, randomUUID, timingSafeEqual } from "node:crypto"
import { readFileSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import { WebSocket } from "ws"

const [account = "default", token = "loopback", agent = "me"] = process.argv.slice(2)
const print = (event) => console.log(JSON.stringify(event))

// 1. The discovery file. (Linux; macOS: ~/Library/Application Support, Windows: %LOCALAPPDATA%\masons-runtime-broker\Data.)
const dataHome = process.env.XDG_DATA_HOME || join(homedir(), ".local", "share")
const base = process.env.MASONS_BROKER_USER_DATA || join(dataHome, "masons-runtime-broker")
const identity = createHash("sha256").update(token).digest("hex").slice(0, 16)
const discoveryFile = join(base, "runtime-broker", account.replace(/[^A-Za-z0-9._-]/g, "_"), identity, "discovery.json")

// 2. Who listens there proves to know the token before it gets it: the file may be older than the listener.
const findBroker = async () => {
  const { bearerToken, ipcUrl } = JSON.parse(readFileSync(discoveryFile, "utf8"))
  const nonce = randomBytes(32).toString("hex")
  const { proof } = await (await fetch(`${ipcUrl}/v1/proof?nonce=${nonce}`)).json()
  const text = `runtime-broker\n${new URL(ipcUrl).port}\n${nonce}`
  const expected = createHmac("sha256", bearerToken).update(text).digest()
  const given = Buffer.from(String(proof), "hex")
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    throw new Error(`What listens at ${ipcUrl} is not the broker of ${discoveryFile}.`)
  }
  return { ipcUrl, bearerToken }
}

let broker
let endpoint
const seen = new Set()

const call = async (method, path, body) => {
  const response = await fetch(broker.ipcUrl + path, {
    method,
    headers: {
      authorization: `Bearer ${broker.bearerToken}`,
      "x-plugin-pid": String(process.pid),
      ...(endpoint === undefined ? {} : { "x-endpoint-owner-token": endpoint.endpoint_owner_token })
    },
    body: body === undefined ? undefined : JSON.stringify(body)
  })
  const answer = await response.json()
  if (!response.ok) throw Object.assign(new Error(`${path}: ${JSON.stringify(answer)}`), { status: response.status })
  return answer
}

// 3. Handshake, stream, endpoint. Resolves when all is there; `lost` is called once when the stream ends.
const connect = async (lost) => {
  broker = await findBroker()
  const { server_version } = await call("POST", "/v1/initialize", {
    client_protocol_version: "1.1",
    client_kind: "plain"
  })
  const stream = new WebSocket(`${broker.ipcUrl.replace("http", "ws")}/v1/stream`, {
    headers: {
      authorization: `Bearer ${broker.bearerToken}`,
      "x-plugin-pid": String(process.pid),
      "x-masons-ipc-capabilities": "push_receipt_ack_v1,push_nack_v1,endpoint_owner_token_v1,endpoint_resume_v1"
    }
  })
  await new Promise((resolve, reject) => stream.once("open", resolve).on("error", reject))
  stream.once("close", lost)
  stream.on("message", (data) => receive(stream, JSON.parse(data)))
  // Not before there is a stream: mail follows at once.
  await comeBack().catch((error) => {
    stream.close()
    throw error
  })
  print({ connected: server_version, ...endpoint })
}

// 4. The endpoint with its mail; a new one only when the broker has forgotten it.
const comeBack = async () => {
  const plugin_pid = process.pid
  if (endpoint !== undefined) {
    try {
      return await call("POST", `/v1/endpoint/${endpoint.endpoint_id}/reattach`, { plugin_pid })
    } catch (error) {
      if (error.status !== 404) throw error
      endpoint = undefined
    }
  }
  endpoint = await call("POST", "/v1/endpoint/register", { plugin_pid, kind: "plain", agent_id: agent })
}

// 5. A receipt when the message is safe here, and not before. What is not acknowledged comes again, marked `redelivered`.
const receive = (stream, { event, push_id, ...frame }) => {
  if (event !== "message_received") return print({ event, ...frame })
  if (!seen.has(frame.sourceMessageId)) print({ event, ...frame })
  seen.add(frame.sourceMessageId)
  if (push_id !== undefined) stream.send(JSON.stringify({ event: "push_ack", push_id }))
}

// 6. A send is repeated under the same key when its answer is lost: the broker sends it once.
const send = async (to, content) => {
  const idempotency_key = randomUUID()
  for (let attempt = 0; ; attempt++) {
    try {
      return await call("POST", "/v1/send", { endpoint_id: endpoint.endpoint_id, to, content, idempotency_key })
    } catch (error) {
      // The broker refused it; 409: it takes this plugin for away, until the stream is back.
      if (attempt > 30 || (error.status !== undefined && error.status !== 409)) throw error
      await sleep(500)
    }
  }
}

// 7. A lost stream is opened again for as long as this runs, ever less often and never at the same moment as all others.
const stayConnected = async () => {
  for (let failures = 0; ; failures++) {
    try {
      await new Promise((lost, failed) => {
        connect(lost).then(() => {
          failures = 0
        }, failed)
      })
      print({ lost: true })
    } catch (error) {
      print({ failed: error.message })
    }
    await sleep(Math.min(30_000, 250 * 2 ** failures) * (0.75 + 0.25 * Math.random()))
  }
}

stayConnected()
for await (const line of createInterface({ input: process.stdin })) {
  const [to, ...words] = line.split(" ")
  send(to, words.join(" ")).then(
    (sent) => print({ sent }),
    (error) => print({ failed: error.message })
  )
}
process.exit()
