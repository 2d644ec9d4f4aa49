/**
 * How records of older versions become those of today. A table's version is 1 until a migration leads on; the store is
 * migrated as it is opened, in one commit.
 */

/** The format of the store itself: the file, its keys, how a record is written. 1 was in no release. */
export const storeFormat = 2

export interface Migration {
  readonly table: string
  readonly from: number
  /** `from` + 1. */
  readonly to: number
  /** The record's value in its new shape; `undefined` removes the record. */
  readonly migrate: (value: unknown, key: string) => unknown
}

export type Migrations = ReadonlyArray<Migration>

export const migrations: Migrations = []

export const currentVersion = (known: Migrations, table: string): number =>
  known.reduce((version, migration) => (migration.table === table ? Math.max(version, migration.to) : version), 1)

/** The value at today's version; `undefined` when it is to be removed. Throws where a step is missing. */
export const migrated = (known: Migrations, table: string, key: string, version: number, value: unknown): unknown => {
  let current = value
  for (let at = version; at < currentVersion(known, table) && current !== undefined; at++) {
    const step = known.find((migration) => migration.table === table && migration.from === at)
    if (step === undefined) throw new Error(`no migration leads on from version ${at} of table ${table}`)
    current = step.migrate(current, key)
  }
  return current
}
