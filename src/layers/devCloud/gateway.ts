/** The gateway: WebSocket, protocol 4. Nothing a client sends ends more than its own connection. */
import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import { WebSocketServer } from "ws"
import { type Account, parseAddress } from "../../services/devCloud/Account.js"
import { type ClientFrame, parseClientFrame } from "../../services/devCloud/ClientFrame.js"
import { defaultDelayMs, type Fault } from "../../services/devCloud/Faults.js"
import type { NewMail } from "../../services/devCloud/Mailbox.js"
import { gatewayProtocolVersion } from "../../services/model/GatewayFrame.js"
import { Connection, seqOfMark, withoutContent } from "./connection.js"
import { isFromOutside, pathParts } from "./http.js"
import type { World } from "./world.js"

/** `/gateway/<account>` is the same door; the account lets faults of the handshake tell accounts apart. */
export const gatewayPath = "/gateway"

const maxFrameBytes = 16 * 1024 * 1024
const registerMs = 15_000
const refused = 4001
export const replacedReason = "Replaced by new Runtime"

type FrameOf<Event extends ClientFrame["event"]> = Extract<ClientFrame, { readonly event: Event }>

export interface Gateway {
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
  /** Puts mail into the mailbox and delivers it where a runtime is there. Answers its number. */
  readonly accept: (account: Account, mail: NewMail) => number
  readonly connections: () => ReadonlyArray<Connection>
  /** The connection that gets the account's mail. */
  readonly runtimeOf: (account: Account) => Connection | undefined
  readonly stall: (account: string | undefined) => void
  readonly close: () => void
}

export const makeGateway = (world: World): Gateway => {
  const { board, journal, later } = world
  const server = new WebSocketServer({ noServer: true, maxPayload: maxFrameBytes, perMessageDeflate: false })
  const connections = new Set<Connection>()
  const runtimes = new Map<Account, Connection>()

  const runtimeOf = (account: Account): Connection | undefined => {
    const connection = runtimes.get(account)
    return connection?.isOpen && connection.isReady ? connection : undefined
  }

  const accept = (account: Account, mail: NewMail): number => {
    const entry = account.mailbox.add(mail)
    runtimeOf(account)?.deliveries.push(entry, "deliver", account.name)
    return entry.seq
  }

  // -- registration ------------------------------------------------------------------------------------------------------

  const refuseRegistration = (connection: Connection, reason: string) => {
    connection.send({ event: "REGISTER_ACK", status: "error", reason, protocolVersion: gatewayProtocolVersion })
    connection.close(refused, reason)
  }

  /** Its answer has left: what waits follows. */
  const onReady = (connection: Connection) => {
    const { lastKnownSeq } = connection
    const account = connection.account!
    const { acknowledged } = account.mailbox
    const isNumbered = account.modes.form === "numbered"
    if (isNumbered && (lastKnownSeq < acknowledged || account.modes.backlog === "announce")) connection.announce()
    if (isNumbered && account.modes.backlog === "announce") return
    for (const mail of account.mailbox.after(isNumbered ? Math.max(acknowledged, lastKnownSeq) : acknowledged)) {
      connection.deliveries.push(mail, "deliver", account.name)
    }
  }

  const onRegister = (connection: Connection, frame: FrameOf<"REGISTER">) => {
    const account = world.accountOfToken(frame.token)
    const fault = board.take(["register"], account?.name)
    if (fault?.does === "refuse") return refuseRegistration(connection, fault.reason ?? "Already connected")
    if (account === undefined) return refuseRegistration(connection, "Invalid token")
    if (frame.protocolVersion !== gatewayProtocolVersion) {
      return refuseRegistration(connection, "Unsupported protocol version")
    }
    const older = runtimes.get(account)
    if (older?.isOpen) {
      if (account.modes.second === "refuse") return refuseRegistration(connection, "Already connected")
      older.close(refused, replacedReason)
      older.forget()
    }
    runtimes.set(account, connection)
    connection.account = account
    connection.scope = frame.runtimeSessionId
    connection.lastKnownSeq = frame.lastKnownSeq
    account.counted("in", frame.event)
    const isNumbered = account.modes.form === "numbered"
    if (isNumbered) account.mailbox.adopt(frame.lastKnownSeq)
    journal.add(account.name, { kind: "connection", connection: connection.id, state: "registered", detail: "" })
    const { name } = account
    connection.answers.pushUnder(
      {
        event: "REGISTER_ACK",
        status: "ok",
        protocolVersion: gatewayProtocolVersion,
        agent: { handle: name, name },
        owner: { handle: "developer", displayName: "Developer" },
        ...(isNumbered ? { deliverySeq: account.mailbox.acknowledged } : {}),
        ...(frame.runtimeSessionId === undefined ? {} : { deliveryRuntimeSessionId: frame.runtimeSessionId })
      },
      fault
    )
  }

  // -- messages ----------------------------------------------------------------------------------------------------------

  const onSend = (connection: Connection, sender: Account, frame: FrameOf<"SEND_MESSAGE">) => {
    const { content, contentType, messageId, metadata, to } = frame
    const fault = board.take(["send"], sender.name)
    const reject = (code: string, message: string) => connection.error(code, message, { messageId, to })
    const answer = (status: "delivered" | "stored") =>
      connection.answers.pushUnder({ event: "SEND_ACK", messageId, status }, fault)
    if (fault?.does === "refuse") {
      return reject(fault.code ?? "rejected", fault.reason ?? "the development cloud was told to refuse")
    }
    const before = sender.sentBefore(messageId)
    if (before !== undefined) return answer(before)

    const address = parseAddress(to)
    const recipient = world.accounts.get(address?.account ?? "")
    if (address === undefined || recipient === undefined) return reject("recipient_unknown", `there is no "${to}"`)
    const isLive = runtimeOf(recipient) !== undefined
    if (metadata.require_live === true && !isLive) {
      return reject("recipient_not_live", `no runtime of "${to}" is connected`)
    }
    const status = isLive ? "delivered" : "stored"
    sender.rememberSent(messageId, status)
    answer(status)
    accept(recipient, {
      messageId,
      from: sender.address,
      content,
      contentType,
      metadata: address.endpointId === undefined ? metadata : { ...metadata, target_endpoint_id: address.endpointId },
      sentAt: new Date(world.now()).toISOString(),
      ...(status === "stored" ? { notify: sender.name } : {})
    })
  }

  const onAck = (connection: Connection, account: Account, frame: FrameOf<"DELIVERY_ACK">) => {
    const fault = board.take(["delivery_ack"], account.name)
    if (fault !== undefined) return fault.does === "cut" ? connection.cut() : undefined
    const upTo = "upTo" in frame ? seqOfMark(frame.upTo) : frame.upToSeq
    const done = upTo === undefined ? undefined : account.mailbox.acknowledge(upTo)
    if (done === undefined) return connection.error("ack_out_of_range", "no such message was delivered")
    const deliveredAt = new Date(world.now()).toISOString()
    for (const { messageId, notify } of done) {
      const sender = notify === undefined ? undefined : world.accounts.get(notify)
      if (sender === undefined) continue
      runtimeOf(sender)?.send({ event: "DELIVERY_STATUS", messageId, status: "delivered", deliveredAt })
    }
  }

  const onGap = (connection: Connection, account: Account, { sinceSeq }: FrameOf<"REQUEST_GAP_FILL">) => {
    const fault = board.take(["gap_fill"], account.name)
    if (fault !== undefined) return fault.does === "cut" ? connection.cut() : undefined
    if (sinceSeq < account.mailbox.acknowledged) connection.announce()
    for (const mail of account.mailbox.after(sinceSeq)) connection.deliveries.push(mail, "deliver", account.name)
  }

  const onFrame = (connection: Connection, text: string) => {
    const frame = parseClientFrame(text)
    if ("problem" in frame) {
      const { messageId, problem } = frame
      return connection.error("invalid_frame", problem, messageId === undefined ? {} : { messageId })
    }
    const { account } = connection
    account?.counted("in", frame.event)
    const owner = frame.event === "REGISTER" ? world.accountOfToken(frame.token) : account
    journal.add(owner?.name ?? null, {
      kind: "frame",
      direction: "in",
      connection: connection.id,
      event: frame.event,
      fields: withoutContent(frame)
    })
    if (frame.event === "REGISTER") {
      return account === undefined
        ? onRegister(connection, frame)
        : connection.error("already_registered", "this connection is registered")
    }
    if (account === undefined) return connection.error("not_registered", "the first frame must be REGISTER")
    // Another runtime has taken its place.
    if (runtimes.get(account) !== connection) return
    switch (frame.event) {
      case "SEND_MESSAGE":
        return onSend(connection, account, frame)
      case "DELIVERY_ACK":
        return onAck(connection, account, frame)
      case "REQUEST_GAP_FILL":
        return onGap(connection, account, frame)
    }
  }

  // -- connections -------------------------------------------------------------------------------------------------------

  const open = (request: IncomingMessage, socket: Duplex, head: Buffer) =>
    server.handleUpgrade(request, socket, head, (opened) => {
      const connection = new Connection(world, opened, onReady)
      connections.add(connection)
      journal.add(null, { kind: "connection", connection: connection.id, state: "opened", detail: "" })
      opened.on("error", () => undefined)
      opened.on("message", (data, isBinary) =>
        isBinary ? connection.error("invalid_frame", "the frame is no text") : onFrame(connection, String(data))
      )
      opened.on("close", (code, reason) => {
        connection.forget()
        connections.delete(connection)
        const { account, id } = connection
        if (account !== undefined && runtimes.get(account) === connection) runtimes.delete(account)
        const detail = `${code} ${reason}`.trim()
        journal.add(account?.name ?? null, { kind: "connection", connection: id, state: "closed", detail })
      })
      later(registerMs, () => {
        if (connection.account === undefined) connection.close(4000, "Register timeout")
      })
    })

  const upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => socket.destroy())
    if (isFromOutside(request)) return refuseHandshake(socket, 403)
    const path = request.url?.split("?", 1)[0] ?? ""
    if (path !== gatewayPath && !path.startsWith(`${gatewayPath}/`)) return refuseHandshake(socket, 404)
    const [, name] = pathParts(path) ?? []
    const fault = board.take(["connect"], name)
    switch (fault?.does) {
      case "refuse":
        return refuseHandshake(socket, fault.status ?? 503)
      case "cut":
        return void socket.destroy()
      case "lose":
        return
      case "delay":
        return later(fault.ms ?? defaultDelayMs, () => open(request, socket, head))
      default:
        return open(request, socket, head)
    }
  }

  board.onCleared(() => {
    const stalls = board.list().filter(({ at }) => at === "connection")
    for (const connection of connections) {
      const isTheirs = ({ account }: Fault) => account === undefined || account === connection.account?.name
      if (!stalls.some(isTheirs)) connection.unstall()
    }
  })

  return {
    upgrade,
    accept,
    connections: () => [...connections],
    runtimeOf,
    stall: (account) => {
      for (const connection of connections) {
        if (account === undefined || connection.account?.name === account) connection.stall()
      }
    },
    close: () => {
      for (const connection of connections) connection.cut()
      server.close()
    }
  }
}

const refuseHandshake = (socket: Duplex, status: number) => {
  socket.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
}
