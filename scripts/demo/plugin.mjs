// One agent session: what a plugin does, without an SDK. The parent process tells it what to do and hears what happens.
import { readFileSync } from "node:fs"
import { WebSocket } from "ws"

const [discoveryFile, agent] = process.argv.slice(2)
const { bearerToken, ipcUrl } = JSON.parse(readFileSync(discoveryFile, "utf8"))
const headers = {
  authorization: `Bearer ${bearerToken}`,
  "x-plugin-pid": String(process.pid),
  "x-masons-ipc-capabilities": "push_receipt_ack_v1"
}
let stream
let endpointId

const call = async (method, path, body) => {
  const response = await fetch(ipcUrl + path, {
    method,
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  })
  return { status: response.status, body: await response.json() }
}

const openStream = () =>
  new Promise((resolve, reject) => {
    stream = new WebSocket(`${ipcUrl.replace("http", "ws")}/v1/stream`, { headers })
    stream.once("open", resolve)
    stream.once("error", reject)
    stream.on("message", (data) => {
      const frame = JSON.parse(data)
      process.send({ frame })
      if (frame.push_id) stream.send(JSON.stringify({ event: "push_ack", push_id: frame.push_id }))
    })
  })

const doing = {
  register: async () => {
    await openStream()
    const registered = await call("POST", "/v1/endpoint/register", {
      agent_id: agent,
      plugin_pid: process.pid,
      kind: "demo",
      workspace: process.cwd()
    })
    endpointId = registered.body.endpoint_id
    return registered
  },
  send: (message) => call("POST", "/v1/send", { endpoint_id: endpointId, ...message }),
  drop: async () => {
    stream.terminate()
    return {}
  },
  reattach: async () => {
    await openStream()
    return call("POST", `/v1/endpoint/${endpointId}/reattach`, { plugin_pid: process.pid })
  },
  list: () => call("GET", "/v1/undispatched"),
  dispatch: (request) => call("POST", "/v1/dispatch", request),
  leave: async () => {
    const left = await call("DELETE", `/v1/endpoint/${endpointId}`)
    stream.close()
    return left
  }
}

process.on("message", async ({ id, what, given }) => {
  process.send({ id, result: await doing[what](given) })
  if (what === "leave") process.disconnect()
})
