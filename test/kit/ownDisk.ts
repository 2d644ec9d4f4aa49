/** Disks that only one process and its children see. */
/** The command on a disk of its own of that size in bytes, which is gone when it ends. Its process id is that of the command. */
export const onOwnDisk = (directory: string, bytes: number, command: ReadonlyArray<string>): ReadonlyArray<string> => {
  const script = 'mount -t tmpfs -o "size=$1,mode=700" tmpfs "$2" && shift 2 && exec "$@"'
  return ["unshare", "-rm", "sh", "-c", script, "sh", String(bytes), directory, ...command]
}

/** Where others find a file of that disk. */
export const seenFromOutside = (pid: number, path: string): string => `/proc/${pid}/root${path}`
