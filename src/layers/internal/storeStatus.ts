import type { StoreFindings as Shown } from "../../services/ipc/OperatorGroup.js"
import type { StoreFindings, StoreReport } from "../../services/StoreReport.js"

/** What status shows of it; `undefined` when everything is as it should be. */
export const findingsOf = ({ opened, unsafeDamaged }: StoreReport["Type"]): Shown | undefined => {
  const { compacted, damagedCopies, migrated, salvaged, setAside, setAsideFile } = opened
  const damaged = unsafeDamaged()
  const shown: Shown = {
    ...(Object.keys(setAside).length === 0 ? {} : { set_aside: setAside }),
    ...(setAsideFile === undefined ? {} : { set_aside_file: setAsideFile }),
    ...(damaged === 0 ? {} : { damaged_since: damaged }),
    ...(salvaged === undefined
      ? {}
      : {
          salvaged: {
            reason: salvaged.reason,
            missing: salvaged.missing ?? null,
            missing_from: salvaged.missingFrom,
            recovered: salvaged.recovered,
            problems: salvaged.problems,
            ...(salvaged.keptAs === undefined ? {} : { kept_as: salvaged.keptAs })
          }
        }),
    ...(damagedCopies.length === 0 ? {} : { damaged_copies: damagedCopies }),
    ...(migrated === 0 ? {} : { migrated }),
    ...(compacted === undefined ? {} : { compacted })
  }
  return Object.keys(shown).length === 0 ? undefined : shown
}

/** What an operator should know of it, in sentences. */
export const storeWarnings = ({ opened, unsafeDamaged }: StoreReport["Type"]): ReadonlyArray<string> => {
  const damaged = unsafeDamaged()
  return [
    ...salvageWarning(opened),
    ...(Object.keys(opened.setAside).length === 0
      ? []
      : [
          `Records of the store failed their checksum at the start and are not served (${countsOf(opened.setAside)}); ` +
            `their bytes are in ${opened.setAsideFile}.`
        ]),
    ...(damaged === 0
      ? []
      : [`Reading the store met damaged records ${damaged} times since the start; they are not served.`])
  ]
}

const countsOf = (counts: StoreFindings["setAside"]) =>
  Object.entries(counts)
    .map(([table, count]) => `${table}: ${count}`)
    .join(", ")

const salvageWarning = ({ salvaged }: StoreFindings): ReadonlyArray<string> => {
  if (salvaged === undefined) return []
  const { keptAs, missing, missingFrom, reason } = salvaged
  const number = missing === undefined ? "An unknown number of records is" : `${missing} records are`
  const lost = missing === 0 ? "Nothing is missing" : `${number} missing, perhaps of ${missingFrom.join(", ")}`
  const kept = keptAs === undefined ? "" : `; the damaged store is kept as ${keptAs}`
  return [`The store was copied when it was opened. ${reason} ${lost}${kept}.`]
}
