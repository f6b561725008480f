#include "ed25519.h"

#include <sodium.h>

namespace mdmesh {

bool verify_ed25519(const std::uint8_t* key, const std::uint8_t* message, std::size_t message_bytes,
                    const std::uint8_t* signature) noexcept {
  // Chooses implementations for this processor, once; from any thread. -1: nothing is to be trusted.
  static const bool ready = sodium_init() >= 0;
  return ready && crypto_sign_verify_detached(signature, message, message_bytes, key) == 0;
}

}  // namespace mdmesh
