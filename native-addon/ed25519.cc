#include "ed25519.h"

#include <sodium.h>

namespace mdmesh {

bool verify_ed25519(const std::uint8_t* key, const std::uint8_t* message, std::size_t message_bytes,
                    const std::uint8_t* signature) noexcept {
  // Chooses implementations for this processor, once; from any thread. -1: nothing is to be trusted.
  static const bool ready = sodium_init() >= 0;
  return ready && crypto_sign_verify_detached(signature, message, message_bytes, key) == 0;
}

std::vector<std::uint8_t> verify_ed25519_each(const std::vector<std::uint8_t>& bytes, const std::vector<std::uint32_t>& ends) {
  constexpr std::size_t kHeadBytes = kEd25519KeyBytes + kEd25519SignatureBytes;
  std::vector<std::uint8_t> fits(ends.size(), 0);
  std::size_t begin = 0;
  for (std::size_t at = 0; at < ends.size(); begin = ends[at++]) {
    const std::size_t end = ends[at];
    if (end > bytes.size() || begin > end || end - begin < kHeadBytes) continue;
    const std::uint8_t* key = bytes.data() + begin;
    fits[at] = verify_ed25519(key, key + kHeadBytes, end - begin - kHeadBytes, key + kEd25519KeyBytes) ? 1 : 0;
  }
  return fits;
}

}  // namespace mdmesh
