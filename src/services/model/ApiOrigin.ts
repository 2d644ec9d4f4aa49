/** Where the platform and the gateway are: one rule for every call that goes there. */

export const defaultApiHost = "preview-api.masons.ai"

/** The origin of an API host: `https` unless it says otherwise; no trailing slashes. */
export const apiOrigin = (apiHost: string): string => {
  const host = apiHost.trim().replace(/\/+$/, "")
  return /^https?:\/\//i.test(host) ? host : `https://${host}`
}

const transportHosts: ReadonlyMap<string, string> = new Map([
  ["api.masons.ai", "connectorapi.masons.ai"],
  ["preview-api.masons.ai", "preview-connectorapi.masons.ai"]
])
/** Hosts of people and web pages; no gateway is there. */
const identityHosts: ReadonlySet<string> = new Set(["masons.ai", "preview.masons.ai"])

const isLoopback = (hostname: string): boolean =>
  hostname === "localhost" || hostname === "[::1]" || /^127(\.\d{1,3}){3}$/.test(hostname)

/** What is wrong with one of the addresses, to complete "it …". Says nothing of what else was typed into the field. */
export interface AddressRefusal {
  readonly of: "apiHost" | "connectorUrl"
  readonly why: string
}

/** `undefined` when these addresses may be used. */
export const refuseAddresses = (origin: string, connectorUrl: string): AddressRefusal | undefined => {
  const of = (name: AddressRefusal["of"], why: string): AddressRefusal => ({ of: name, why })

  const api = parse(origin)
  // Another scheme has become a host and a path.
  if (api === undefined || api.pathname.includes("//")) return of("apiHost", "is no host name and no https:// address")
  if (api.username !== "" || api.password !== "" || api.search !== "" || api.hash !== "") {
    return of("apiHost", "must be a host name or an https:// address without user, query and fragment")
  }
  if (api.protocol === "http:" && !isLoopback(api.hostname)) {
    return of(
      "apiHost",
      `would send the token unencrypted to ${api.host}; only this machine may be called by http://, use https://`
    )
  }

  const gateway = parse(connectorUrl)
  if (gateway === undefined || !/^wss?:$/.test(gateway.protocol) || gateway.hash !== "") {
    return of("connectorUrl", "is no wss:// address; it looks like wss://<host>/gateway")
  }
  const expected = transportHosts.get(api.hostname)
  if (expected !== undefined && identityHosts.has(gateway.hostname)) {
    return of("connectorUrl", `names the web host ${gateway.hostname}; it must be wss://${expected}/gateway`)
  }
  if (gateway.protocol === "ws:" && !isLoopback(gateway.hostname)) {
    return of(
      "connectorUrl",
      `would send the token unencrypted to ${gateway.host}; only this machine may be called by ws://, use wss://`
    )
  }
  return undefined
}

// Parsing also puts hosts into lower case.
const parse = (address: string): URL | undefined => (URL.canParse(address) ? new URL(address) : undefined)
