/** The disk, and the store where no broker has it open. */
import { existsSync } from "node:fs"
import { Effect } from "effect"
import { freeDisk } from "../../../layers/lmdb/room.js"
import * as Tools from "../../../layers/lmdb/tools.js"
import type { Paths } from "../../../services/Paths.js"
import { bytes, counts, plural } from "../words.js"
import { type Check, ok, problem, warning } from "./check.js"

/** Free disk against the limit below which no new mail is taken. */
export const checkDisk = (directory: string, limit: number): Effect.Effect<Check> =>
  Effect.map(
    Effect.promise(() => freeDisk(directory)),
    (free) => {
      if (free === undefined) return warning("disk", `How much room the disk of ${directory} has cannot be told.`)
      const room = `The disk of ${directory} has ${bytes(free)} free; no new mail is taken below ${bytes(limit)}.`
      if (free < limit) return problem("disk", `${room} Make room.`)
      return free < 2 * limit ? warning("disk", room) : ok("disk", room)
    }
  )

/** Every page and record of a closed store. */
export const checkStore = ({ storeDirectory }: Paths["Type"]): Effect.Effect<ReadonlyArray<Check>> => {
  if (!existsSync(storeDirectory)) return Effect.succeed([ok("store", "There is no store yet.")])
  return Effect.all([Tools.verify(storeDirectory), Tools.inspect(storeDirectory)]).pipe(
    Effect.map(([{ damaged, isSound, problems, records }, { damagedCopies, fileBytes }]) => [
      ...(Tools.diedOpening(storeDirectory)
        ? [warning("store", `Opening ${storeDirectory} ended the process; the next start copies what can be read.`)]
        : []),
      ...(isSound ? [ok("store", `${plural(records, "record")}, ${bytes(fileBytes)}, as they were written.`)] : []),
      ...(Object.keys(damaged).length === 0
        ? []
        : [problem("store", `Records fail their checksum (${counts(damaged)}); the next start sets them aside.`)]),
      ...problems.map((message) => problem("store", `${message} The next start copies what can be read.`)),
      ...damagedCopies.map((copy) =>
        warning("store", `A damaged store is kept as ${copy}; salvage or remove it when nothing of it is missed.`)
      )
    ]),
    Effect.catchAll(({ message }) => Effect.succeed([problem("store", message)]))
  )
}

/** Messages of a closed store. */
export const checkMessages = ({ storeDirectory }: Paths["Type"]): Effect.Effect<ReadonlyArray<Check>> => {
  if (!existsSync(storeDirectory)) return Effect.succeed([ok("ledger", "No messages are held.")])
  return Tools.heldMessages(storeDirectory).pipe(
    Effect.map(({ deadLetters, inbox, mail, ownerless }) => {
      const held = [...mail.values()].reduce((sum, count) => sum + count, 0)
      const lost = ownerless.reduce((sum, owner) => sum + mail.get(owner)!, 0)
      return [
        lost === 0
          ? ok(
              "ledger",
              `${plural(held, "message")} held for ${plural(mail.size, "endpoint")}, ${inbox} in the inbox, ${deadLetters} dead letters; each has an owner.`
            )
          : problem(
              "ledger",
              `${plural(lost, "message")} of ${held} held belong to no endpoint; the next start moves them to the inbox.`
            )
      ]
    }),
    Effect.catchAll(({ message }) => Effect.succeed([problem("ledger", message)]))
  )
}
