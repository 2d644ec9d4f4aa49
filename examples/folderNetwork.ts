/**
 * A network of one's own: whoever has a folder below `root` can be reached at `folder:<name>`, and a message is a JSON file in it.
 * This is all it takes to put the broker on it; `test/examples` proves it with the suite every connector passes.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Layer, Schedule, Stream } from "effect"
import { Connector } from "runtime-broker/services"

type Item = Connector.InboundItem

const maxFrameBytes = 1024 * 1024
const addressOf = (name: string) => `folder:${name}`

let written = 0
/** Appears whole, and behind what is there: names sort in the order of writing. */
const write = (
  folder: string,
  { content, contentType, messageId, metadata }: Connector.OutboundMessage,
  from: string
) => {
  const time = String(Date.now()).padStart(15, "0")
  const file = join(folder, `${time}-${String(written++).padStart(9, "0")}-${encodeURIComponent(messageId)}`)
  writeFileSync(`${file}.part`, JSON.stringify({ messageId, from, content, contentType, metadata }))
  renameSync(`${file}.part`, `${file}.json`)
}

/** The connector of `name` on the network in `root`. */
export const layer = (root: string, name: string): Layer.Layer<Connector.Connector> =>
  Layer.sync(Connector.Connector, () => {
    const folder = join(root, name)
    mkdirSync(folder, { recursive: true })
    const link: Connector.Link = { state: "up", since: Date.now() }
    /** Handed to the broker and not accepted yet, by file. */
    const given = new Map<string, Item>()
    const released = new Set<string>()
    let handler: ((batch: ReadonlyArray<Item>) => void) | undefined
    const hear = (next: typeof handler) =>
      Effect.sync(() => {
        handler = next
      })

    const read = (file: string): ReadonlyArray<Item> => {
      const text = readFileSync(join(folder, file), "utf8")
      try {
        const item = { ...JSON.parse(text), bytes: Buffer.byteLength(text), token: file, redeliverable: true }
        given.set(file, item)
        return [item]
      } catch {
        // What is no message waits beside the others for somebody to look at it.
        renameSync(join(folder, file), join(folder, `${file}.unreadable`))
        return []
      }
    }

    const look = Effect.sync(() => {
      const files = readdirSync(folder).filter((file) => file.endsWith(".json") && !given.has(file))
      const batch = files.sort().flatMap(read)
      if (batch.length > 0) handler?.(batch)
    })

    return Connector.Connector.of({
      name: "folder",
      abilities: { accept: "individual", redelivers: true, dedupesSends: false, maxFrameBytes },
      receive: (onBatch) =>
        Effect.acquireRelease(hear(onBatch), () => hear(undefined)).pipe(
          Effect.zipRight(Effect.forkScoped(Effect.repeat(look, Schedule.spaced("50 millis"))))
        ),
      unsafeAccept: (tokens) => {
        for (const file of tokens as ReadonlyArray<string>) {
          released.delete(file)
          if (given.delete(file)) rmSync(join(folder, file))
        }
      },
      unsafeRelease: (tokens) => {
        for (const file of tokens as ReadonlyArray<string>) if (given.has(file)) released.add(file)
      },
      unsafeRedeliver: () => {
        const batch = [...released].sort().map((file) => given.get(file)!)
        released.clear()
        if (batch.length > 0) handler?.(batch)
      },
      send: (message) =>
        Effect.gen(function* () {
          const to = /^folder:([\w-]+)$/.exec(message.to)?.[1]
          if (to === undefined || !existsSync(join(root, to))) {
            return yield* new Connector.SendRejected({ code: "unknown_folder", reason: `there is no ${message.to}` })
          }
          yield* Effect.try({
            try: () => write(join(root, to), message, addressOf(name)),
            catch: (error) => new Connector.ConnectorUnavailable({ reason: (error as Error).message })
          })
          return { messageId: message.messageId, status: "stored" as const }
        }),
      unsafeLink: () => link,
      links: Stream.make(link)
    })
  })
