/**
 * What every variant of a service owes the broker, as test suites for vitest: `connectorContract(name, layer)` and its like are
 * called at the top of a test file. They run against the live clock and give every case a fresh layer.
 */
export { type ConnectorLives, connectorContract, Outside } from "./ConnectorContract.js"
export { platformApiContract } from "./PlatformApiContract.js"
export { storeContract } from "./StoreContract.js"
