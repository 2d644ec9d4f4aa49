/** Sends inputs to a broker, many connections at a time, and looks at every answer. */
import { converse, type Ending, NoAnswer, Pipeline, type PipelinedAnswer } from "../pipeline.js"
import { badFrame, goodFrame, halfFrame } from "./frames.js"
import { handshake, handshakeInput, oddInput, roughInput, routeInput } from "./http.js"
import type { Random } from "./Random.js"
import type { World } from "./World.js"

/** How often each status was answered; 101 stands for an open stream. */
export interface Tally {
  inputs: number
  readonly statuses: Map<number, number>
}

/** An answer the broker must not give, or none, with the input it came for. */
export class Finding extends Error {}

const show = (bytes: Buffer) => JSON.stringify(bytes.subarray(0, 3_000).toString("latin1"))

const isRefusal = (text: string): boolean => {
  try {
    const body: unknown = JSON.parse(text)
    if (typeof body !== "object" || body === null) return false
    const { error, message } = body as { error?: unknown; message?: unknown }
    return typeof error === "string" && error !== "" && typeof message === "string" && message !== ""
  } catch {
    return false
  }
}

/** What is wrong with an answer. */
const faultOf = ({ headers, status, text }: PipelinedAnswer, method: string | undefined): string | undefined => {
  if (status >= 500 && status !== 502 && status !== 503) return "it is the broker's fault"
  if (status < 400) return status === 101 || status === 200 ? undefined : "no status of this surface"
  if (method === "HEAD") return undefined
  if (!isRefusal(text)) return `a refusal is no {"error","message"}: ${JSON.stringify(text)}`
  return headers["content-type"]?.startsWith("application/json") ? undefined : "a refusal is not called JSON"
}

const look = (tally: Tally, answers: ReadonlyArray<PipelinedAnswer>, input: Buffer, methods: ReadonlyArray<string>) => {
  answers.forEach((answer, n) => {
    tally.statuses.set(answer.status, (tally.statuses.get(answer.status) ?? 0) + 1)
    const fault = faultOf(answer, methods[n])
    if (fault !== undefined) throw new Finding(`${answer.status}: ${fault}\nThe input: ${show(input)}`)
  })
}

const batchSize = 16
const endings: ReadonlyArray<readonly [number, Ending]> = [
  [6, "end"],
  [2, "destroy"],
  [2, "reset"]
]

/** Requests in a batch, over a connection that must live on. */
const batch = async (random: Random, world: World, tally: Tally, pipeline: Pipeline) => {
  const requests = Array.from({ length: batchSize }, () =>
    random.chance(0.75) ? routeInput(random, world) : oddInput(random, world)
  )
  const methods = requests.map(({ method }) => method)
  const bytes = Buffer.concat(requests.map(({ bytes }) => bytes))
  const answers = await pipeline.exchange(bytes, methods).catch((error) => {
    throw new Finding(`${(error as Error).message}\nThe batch: ${show(bytes)}`)
  })
  answers.forEach((answer, n) => {
    look(tally, [answer], requests[n]!.bytes, [methods[n]!])
  })
  tally.inputs += batchSize
  if (answers.length < batchSize) {
    const waiting = requests.slice(answers.length).map(({ bytes }) => show(bytes))
    throw new Finding(`After ${JSON.stringify(answers.at(-1))} the connection was closed before\n${waiting.join("\n")}`)
  }
}

const rough = async (random: Random, world: World, tally: Tally) => {
  const pieces = roughInput(random, world)
  const ending = random.weighted(endings)
  const input = Buffer.concat(pieces)
  const answers = await converse(world.port, pieces, ending).catch((error) => {
    throw new Finding(`${(error as Error).message}\nThe input: ${show(input)}`)
  })
  look(tally, answers, input, [])
  tally.inputs++
}

const upgrade = async (random: Random, world: World, tally: Tally) => {
  const input = handshakeInput(random, world)
  const more = random.chance(0.2) ? [goodFrame(random, world)] : []
  const half = random.chance(0.1)
  const ending = half ? random.pick<Ending>(["destroy", "reset", "end"]) : random.weighted(endings)
  const pieces = half ? [input.subarray(0, random.below(input.length))] : [input, ...more]
  const answers = await converse(world.port, pieces, ending).catch((error) => {
    throw new Finding(`${(error as Error).message}\nThe input: ${show(input)}`)
  })
  look(tally, answers.slice(0, 1), input, [])
  tally.inputs++
}

/** A stream with frames that are good and odd, and a last one that is not good, or a connection that ends. */
const stream = async (random: Random, world: World, tally: Tally) => {
  const frames = random.some(12, () => goodFrame(random, world))
  const isBad = random.chance(0.6)
  const last = isBad ? badFrame(random) : random.chance(0.5) ? halfFrame(random, world) : Buffer.alloc(0)
  const opening = handshake(random, world)
  const pieces = random.chance(0.3) ? [Buffer.concat([opening, ...frames, last])] : [opening, ...frames, last]
  const ending = isBad ? "end" : random.pick<Ending>(["end", "destroy", "reset"])
  const answers = await converse(world.port, pieces, ending).catch((error) => {
    throw new Finding(`${(error as Error).message}\nThe frames: ${show(Buffer.concat(pieces))}`)
  })
  look(tally, answers.slice(0, 1), opening, [])
  tally.inputs += frames.length + 1
}

export interface FuzzOptions {
  readonly random: Random
  readonly count: number
  /** Connections at a time. */
  readonly lanes: number
}

/** Sends at least `count` inputs. Rejects with the first finding. */
export const fuzz = async (world: World, { count, lanes, random }: FuzzOptions): Promise<Tally> => {
  const tally: Tally = { inputs: 0, statuses: new Map() }
  let hasFailed = false
  const lane = async (random: Random) => {
    let pipeline = new Pipeline(world.port)
    try {
      while (tally.inputs < count && !hasFailed) {
        const one = random.weighted<() => Promise<void>>([
          [10, () => batch(random, world, tally, pipeline)],
          [35, () => rough(random, world, tally)],
          [25, () => upgrade(random, world, tally)],
          [20, () => stream(random, world, tally)]
        ])
        await one()
        if (!pipeline.isOpen) pipeline = new Pipeline(world.port)
      }
    } catch (error) {
      hasFailed = true
      throw error instanceof NoAnswer ? new Finding(error.message) : error
    } finally {
      pipeline.close()
    }
  }
  await Promise.all(Array.from({ length: lanes }, (_, n) => lane(random.fork(n))))
  return tally
}
