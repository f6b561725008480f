{
  'targets': [
    {
      'target_name': 'mdmesh',
      'sources': [
        'binding.cc', 'clock.cc', 'disk_io.cc', 'dm_ioctl.cc', 'ed25519.cc', 'every_thread.cc', 'failure.cc', 'gated_array.cc', 'guard.cc',
        'io_flusher.cc', 'lane.cc', 'md_ioctl.cc', 'md_sysfs.cc', 'notify.cc', 'privileges.cc', 'read_gate.cc', 'realtime.cc', 'reservation.cc',
        'watchdog.cc',
      ],
      # node-addon-api as a system directory: its warnings are not ours.
      'cflags_cc': [
        '-std=gnu++20', '-Wall', '-Wextra', '-Werror', '-fexceptions', '-fvisibility=hidden',
        "-isystem <!(node -p \"require('path').dirname(require.resolve('node-addon-api'))\")",
      ],
      'cflags_cc!': ['-fno-exceptions'],
      # Static: mdmesh needs no library at run time. Its names stay inside: the runtime may bring others of them.
      'libraries': ['-l:libsodium.a', '-Wl,--exclude-libs,libsodium.a', '-Wl,-Bsymbolic'],
      'defines': ['NAPI_VERSION=9', 'NAPI_CPP_EXCEPTIONS', '_FILE_OFFSET_BITS=64'],
    },
  ],
}
