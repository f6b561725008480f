/** What a file that names only its cluster and its nodes gets. The reasons stand in config/mdmesh.example.yaml. */
export const DEFAULT_FILE = '/etc/mdmesh/mdmesh.yaml';
export const DEFAULT_PORT = 7946;
export const DEFAULT_CLUSTER_NAME = 'mdmesh';
export const DEFAULT_KEY_FILE = '/etc/mdmesh/key';
export const DEFAULT_STATE_DIR = '/var/lib/mdmesh';
export const DEFAULT_SOCKET_PATH = '/run/mdmesh/mdmesh.sock';
export const DEFAULT_SOCKET_MODE = '0600';
/** The only method that is right on every hardware: it never vouches for what nobody saw. */
export const DEFAULT_FENCING_METHODS = Object.freeze(['manual'] as const);
export const DEFAULT_COMMAND_TIMEOUT_MS = 30_000;
export const DEFAULT_WATCHDOG_DEVICE = '/dev/watchdog';
export const DEFAULT_DEVICES = Object.freeze([
  '/dev/sd*',
  '/dev/nvme*n*',
  '/dev/vd*',
  '/dev/ubd*',
  '/dev/mapper/*',
] as const);
export const DEFAULT_COPY_WINDOW_MS = 15;
export const DEFAULT_COPY_WINDOW_MAX_KIB = 64 * 1024;
export const DEFAULT_COPY_CHECKPOINT_MS = 2000;
export const DEFAULT_HOOK_TIMEOUT_MS = 60_000;
export const DEFAULT_HOOK_MAX_AGE_MS = 86_400_000;
export const DEFAULT_MAIL_FROM = 'root';
/** -t: who gets it stands in the message; -i: a line with a dot alone does not end it. */
export const DEFAULT_MAIL_COMMAND = Object.freeze(['/usr/sbin/sendmail', '-t', '-i'] as const);
export const DEFAULT_JOURNAL_FSYNC_AFTER_MS = 50;
export const DEFAULT_JOURNAL_ROTATE_KIB = 64 * 1024;
export const DEFAULT_JOURNAL_ROTATE_DAYS = 30;
export const DEFAULT_JOURNAL_CHECKPOINT_ENTRIES = 256;
export const DEFAULT_JOURNAL_CHECKPOINT_AFTER_MS = 600_000;
