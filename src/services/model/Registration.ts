/** Moved to `Session.ts`; goes with its last two importers, `Registry.ts` and `RegistryStore.ts`. */
export * from "./Session.js"
