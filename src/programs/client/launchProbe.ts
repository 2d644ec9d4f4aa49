/** Who listens where a broker was recorded. Nobody is told a token before having proved to know it. */
import { randomBytes } from "node:crypto"
import * as http from "node:http"
import { isProof } from "../../layers/machine/proof.js"
import { isRecord } from "./wire.js"

/** What a discovery file says. */
export interface Recorded {
  readonly pid: number
  readonly ipcUrl: string
  readonly bearerToken: string
}

export type Listener =
  /** The recorded broker. `isProven` is false only where an unproven one was acceptable. */
  | { readonly is: "broker"; readonly version: string | undefined; readonly isProven: boolean }
  /** Answers as brokers without proof do. */
  | { readonly is: "unproven" }
  /** Did not answer in time. */
  | { readonly is: "silent" }
  /** There is none, or it is something else. */
  | { readonly is: "nobody" }

export interface ProbeOptions {
  readonly acceptUnproven: boolean
  /** How long each answer may take. */
  readonly withinMs: number
}

/** `undefined` when the text is torn or something else. */
export const parseRecorded = (text: string): Recorded | undefined => {
  const json = parse(text)
  if (!isRecord(json)) return undefined
  const { bearerToken, ipcUrl, pid, version } = json
  if (version !== 1 || typeof pid !== "number" || typeof bearerToken !== "string" || typeof ipcUrl !== "string") {
    return undefined
  }
  return /^http:\/\/(127\.0\.0\.1|localhost|\[::1\]):\d+$/.test(ipcUrl) ? { pid, ipcUrl, bearerToken } : undefined
}

export const probe = async (recorded: Recorded, options: ProbeOptions): Promise<Listener> => {
  const { bearerToken, ipcUrl } = recorded
  const nonce = randomBytes(32).toString("hex")
  const answer = await ask(ipcUrl, { method: "GET", path: `/v1/proof?nonce=${nonce}`, withinMs: options.withinMs })
  if (typeof answer === "string") return { is: answer }
  const proof = isRecord(answer.body) ? answer.body.proof : undefined
  if (answer.status === 200 && typeof proof === "string") {
    return isProof(proof, bearerToken, new URL(ipcUrl).port, nonce) ? health(recorded, options, true) : { is: "nobody" }
  }
  const isLikeABroker =
    (answer.status === 401 || answer.status === 404) && isRecord(answer.body) && typeof answer.body.error === "string"
  if (!isLikeABroker) return { is: "nobody" }
  return options.acceptUnproven ? health(recorded, options, false) : { is: "unproven" }
}

const health = async (
  { bearerToken, ipcUrl }: Recorded,
  { withinMs }: ProbeOptions,
  isProven: boolean
): Promise<Listener> => {
  const answer = await ask(ipcUrl, { method: "GET", path: "/health", token: bearerToken, withinMs })
  if (typeof answer === "string") return { is: answer }
  if (answer.status < 200 || answer.status > 299) return { is: "nobody" }
  const version = isRecord(answer.body) ? answer.body.version : undefined
  return { is: "broker", version: typeof version === "string" ? version : undefined, isProven }
}

export interface Question {
  readonly method: "GET" | "POST"
  readonly path: string
  readonly token?: string
  readonly body?: unknown
  readonly withinMs: number
}

/** More than a broker says to these questions. */
const longestAnswer = 64 * 1024

/** Asks over a connection of its own. `nobody` also when the connection breaks or the answer is too long. */
export const ask = (
  url: string,
  { body, method, path, token, withinMs }: Question
): Promise<{ readonly status: number; readonly body: unknown } | "silent" | "nobody"> =>
  new Promise((resolve) => {
    const text = body === undefined ? "" : JSON.stringify(body)
    const headers = {
      connection: "close",
      "content-length": Buffer.byteLength(text),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` })
    }
    const request = http.request(url + path, { method, agent: false, headers }, (response) => {
      const chunks: Array<Buffer> = []
      let length = 0
      response.on("data", (chunk: Buffer) => {
        chunks.push(chunk)
        length += chunk.length
        if (length > longestAnswer) done("nobody")
      })
      response.on("error", () => done("nobody"))
      response.on("end", () =>
        done({ status: response.statusCode ?? 0, body: parse(Buffer.concat(chunks).toString("utf8")) })
      )
    })
    const done = (answer: Awaited<ReturnType<typeof ask>>) => {
      clearTimeout(timer)
      resolve(answer)
      request.destroy()
    }
    const timer = setTimeout(() => done("silent"), withinMs)
    request.on("error", () => done("nobody"))
    request.end(text)
  })

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** True when the daemon's version is surely lower: `major.minor.patch`, what follows is not compared. */
export const isOlder = (theirs: string | undefined, ours: string): boolean => {
  const [given, own] = [numbersOf(theirs ?? ""), numbersOf(ours)]
  if (given === undefined || own === undefined) return false
  const at = given.findIndex((number, n) => number !== own[n])
  return at >= 0 && given[at]! < own[at]!
}

const numbersOf = (version: string): ReadonlyArray<number> | undefined =>
  /^(?:runtime-broker\/)?(\d+)\.(\d+)\.(\d+)(?:[-+].*)?$/.exec(version)?.slice(1).map(Number)
