// Translation only: JavaScript values to the calls of the other files, their answers to promises and callbacks.
#include <napi.h>
#include <uv.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "clock.h"
#include "disk_io.h"
#include "dm_ioctl.h"
#include "ed25519.h"
#include "guard.h"
#include "io_flusher.h"
#include "lane.h"
#include "md_ioctl.h"
#include "md_sysfs.h"
#include "notify.h"
#include "privileges.h"
#include "reservation.h"

namespace {

using mdmesh::Failure;
using mdmesh::Outcome;

constexpr int kApiVersion = 1;
constexpr std::size_t kPoolThreadsMax = 32;
/** A deadline further away than this is a mistake of unit or clock, and would switch the guard off. */
constexpr double kDeadlineAheadMsMax = 600'000;
constexpr double kReadBytesMax = 1024.0 * 1024 * 1024;

/** Brings work to the JavaScript thread. Answers that come after the environment's end are thrown away. */
class Mailbox {
 public:
  explicit Mailbox(Napi::Env env)
      : to_loop_(Napi::ThreadSafeFunction::New(env, Napi::Function(), "mdmesh", 0, 1)) {
    to_loop_.Unref(env);
  }

  void post(std::function<void(Napi::Env)> letter) {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    to_loop_.NonBlockingCall([letter = std::move(letter)](Napi::Env env, Napi::Function) { letter(env); });
  }

  /** A promise under way keeps the process alive; watchers and the guard do not. JavaScript thread only. */
  void expect(Napi::Env env) {
    if (expected_++ == 0) to_loop_.Ref(env);
  }
  void arrived(Napi::Env env) {
    if (--expected_ == 0) to_loop_.Unref(env);
  }

  void close() {
    const std::lock_guard lock(mutex_);
    if (std::exchange(closed_, true)) return;
    to_loop_.Abort();
  }

 private:
  std::mutex mutex_;
  bool closed_ = false;
  std::size_t expected_ = 0;
  Napi::ThreadSafeFunction to_loop_;
};

Napi::Error to_error(Napi::Env env, const Failure& failure) {
  auto error = Napi::Error::New(env, failure.text);
  error.Set("code", Napi::String::New(env, failure.code));
  return error;
}

void throw_if(Napi::Env env, const Outcome& outcome) {
  if (outcome) throw to_error(env, *outcome);
}

/** A promise that any thread may settle, once. `value` runs on the JavaScript thread. */
class Pending {
 public:
  using Value = std::function<Napi::Value(Napi::Env)>;

  Pending(Napi::Env env, std::shared_ptr<Mailbox> mailbox)
      : deferred_(Napi::Promise::Deferred::New(env)), mailbox_(std::move(mailbox)) {
    mailbox_->expect(env);
  }

  Napi::Promise promise() const { return deferred_.Promise(); }

  void resolve(Value value) const {
    mailbox_->post([deferred = deferred_, mailbox = mailbox_.get(), value = std::move(value)](Napi::Env env) {
      mailbox->arrived(env);
      deferred.Resolve(value(env));
    });
  }
  void settle(const Outcome& outcome) const {
    if (!outcome) return resolve([](Napi::Env env) { return env.Undefined(); });
    mailbox_->post([deferred = deferred_, mailbox = mailbox_.get(), failure = *outcome](Napi::Env env) {
      mailbox->arrived(env);
      deferred.Reject(to_error(env, failure).Value());
    });
  }

 private:
  Napi::Promise::Deferred deferred_;
  std::shared_ptr<Mailbox> mailbox_;
};

std::string text_at(const Napi::CallbackInfo& info, std::size_t at, const char* name) {
  if (!info[at].IsString()) throw Napi::TypeError::New(info.Env(), std::string(name) + ": a string is needed");
  return info[at].As<Napi::String>().Utf8Value();
}

double number_of(Napi::Env env, const Napi::Value& value, const char* name, double least, double most) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (number >= least && number <= most) return number;
  throw Napi::RangeError::New(env, std::string(name) + ": a number from " + std::to_string(least) + " to " +
                                       std::to_string(most) + " is needed, not " + value.ToString().Utf8Value());
}

double number_at(const Napi::CallbackInfo& info, std::size_t at, const char* name, double least, double most) {
  return number_of(info.Env(), info[at], name, least, most);
}

std::uint64_t whole_of(Napi::Env env, const Napi::Value& value, const char* name) {
  const double number = number_of(env, value, name, 0, 9007199254740991.0);
  if (number != std::floor(number)) throw Napi::RangeError::New(env, std::string(name) + ": a whole number is needed");
  return static_cast<std::uint64_t>(number);
}

std::uint64_t whole_at(const Napi::CallbackInfo& info, std::size_t at, const char* name) {
  return whole_of(info.Env(), info[at], name);
}

std::vector<std::string> texts_at(const Napi::CallbackInfo& info, std::size_t at, const char* name) {
  if (!info[at].IsArray()) throw Napi::TypeError::New(info.Env(), std::string(name) + ": an array of strings is needed");
  const auto array = info[at].As<Napi::Array>();
  std::vector<std::string> texts;
  texts.reserve(array.Length());
  for (std::uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Value one = array.Get(i);
    if (!one.IsString()) throw Napi::TypeError::New(info.Env(), std::string(name) + ": an array of strings is needed");
    texts.push_back(one.As<Napi::String>().Utf8Value());
  }
  return texts;
}

Napi::Uint8Array bytes_at(const Napi::CallbackInfo& info, std::size_t at, const char* name) {
  if (!info[at].IsTypedArray() || info[at].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(info.Env(), std::string(name) + ": a Uint8Array is needed");
  }
  return info[at].As<Napi::Uint8Array>();
}

Napi::Function function_at(const Napi::CallbackInfo& info, std::size_t at, const char* name) {
  if (!info[at].IsFunction()) throw Napi::TypeError::New(info.Env(), std::string(name) + ": a function is needed");
  return info[at].As<Napi::Function>();
}

/** Keys are 64 bits, more than a JavaScript number holds: 16 hexadecimal digits. */
std::string hex_of(std::uint64_t key) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text(16, '0');
  for (std::size_t i = 16; i > 0; i--, key >>= 4) text[i - 1] = kDigits[key & 15];
  return text;
}

std::uint64_t key_at(const Napi::CallbackInfo& info, std::size_t at, const char* name) {
  const auto text = text_at(info, at, name);
  const bool sound = text.size() == 16 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
  const std::uint64_t key = sound ? std::stoull(text, nullptr, 16) : 0;
  // 0 is no key: to the disk it means that there is none.
  if (key == 0) throw Napi::RangeError::New(info.Env(), std::string(name) + ": 16 hexadecimal digits, not all 0, are needed, not \"" + text + "\"");
  return key;
}

Napi::Array to_array(Napi::Env env, const std::vector<std::string>& texts) {
  auto array = Napi::Array::New(env, texts.size());
  for (std::uint32_t i = 0; i < texts.size(); i++) array.Set(i, Napi::String::New(env, texts[i]));
  return array;
}

class Addon : public Napi::Addon<Addon> {
 public:
  Addon(Napi::Env env, Napi::Object exports);

  const std::shared_ptr<Mailbox>& mailbox() const { return mailbox_; }
  /** Work to stop before the environment goes. */
  void at_end(std::weak_ptr<mdmesh::Watcher> watcher) { watchers_.push_back(std::move(watcher)); }
  void at_end(std::weak_ptr<mdmesh::Guard> guard) { guard_ = std::move(guard); }
  bool has_guard() const { return !guard_.expired(); }

  Napi::FunctionReference alarm_class;
  Napi::FunctionReference watcher_class;
  Napi::FunctionReference guard_class;

 private:
  void end();

  Napi::Value boot_time_ms(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), mdmesh::ms_from_ns(mdmesh::boot_time_ns()));
  }

  Napi::Value read_files(const Napi::CallbackInfo& info) {
    const auto paths = texts_at(info, 0, "paths");
    auto texts = Napi::Array::New(info.Env(), paths.size());
    for (std::uint32_t i = 0; i < paths.size(); i++) {
      const auto text = attributes_.read(paths[i]);
      texts.Set(i, text ? Napi::Value(Napi::String::New(info.Env(), *text)) : info.Env().Null());
    }
    return texts;
  }

  Napi::Value on_sysfs_pool(Napi::Env env, std::function<Outcome()> work) {
    const Pending pending(env, mailbox_);
    sysfs_pool_.run([pending, work = std::move(work)] { pending.settle(work()); });
    return pending.promise();
  }

  Napi::Value write_file(const Napi::CallbackInfo& info) {
    return on_sysfs_pool(info.Env(), [path = text_at(info, 0, "path"), value = text_at(info, 1, "value")] {
      return mdmesh::write_text(path, value);
    });
  }

  Napi::Value alarm(const Napi::CallbackInfo& info) { return alarm_class.New({info[0]}); }
  Napi::Value watch(const Napi::CallbackInfo& info) { return watcher_class.New({info[0], info[1]}); }
  Napi::Value start_guard(const Napi::CallbackInfo& info) { return guard_class.New({info[0], info[1]}); }

  Napi::Value read_direct(const Napi::CallbackInfo& info) {
    auto path = text_at(info, 0, "path");
    const std::uint64_t offset_bytes = whole_at(info, 1, "offsetBytes");
    const auto length_bytes = static_cast<std::size_t>(number_at(info, 2, "lengthBytes", 1, kReadBytesMax));
    const Pending pending(info.Env(), mailbox_);
    disk_pool_.run([pending, path = std::move(path), offset_bytes, length_bytes] {
      const auto buffer = std::make_shared<mdmesh::AlignedBuffer>(length_bytes);
      if (auto failure = mdmesh::read_direct(path, offset_bytes, *buffer)) return pending.settle(failure);
      pending.resolve([buffer](Napi::Env env) {
        const std::size_t size_bytes = buffer->size_bytes();
        return Napi::Buffer<std::uint8_t>::NewOrCopy(env, buffer->release(), size_bytes,
                                                     [](Napi::Env, std::uint8_t* bytes) { std::free(bytes); });
      });
    });
    return pending.promise();
  }

  Napi::Value write_direct(const Napi::CallbackInfo& info) {
    const auto env = info.Env();
    const auto path = text_at(info, 0, "path");
    const std::uint64_t offset_bytes = whole_at(info, 1, "offsetBytes");
    const auto source = bytes_at(info, 2, "bytes");
    std::vector<mdmesh::DiskWrite> writes;
    writes.push_back({path, offset_bytes, mdmesh::AlignedBuffer(source.ByteLength())});
    if (source.ByteLength() > 0) std::memcpy(writes[0].bytes.bytes(), source.Data(), source.ByteLength());
    const Pending pending(env, mailbox_);
    own_blocks_.write(std::move(writes), [] { return Outcome{}; }, [pending](std::vector<Outcome> outcomes) { pending.settle(outcomes.at(0)); });
    return pending.promise();
  }

  Napi::Value verify_ed25519(const Napi::CallbackInfo& info) {
    const auto key = bytes_at(info, 0, "key");
    const auto message = bytes_at(info, 1, "message");
    const auto signature = bytes_at(info, 2, "signature");
    const bool sound = key.ByteLength() == mdmesh::kEd25519KeyBytes && signature.ByteLength() == mdmesh::kEd25519SignatureBytes;
    return Napi::Boolean::New(info.Env(), sound && mdmesh::verify_ed25519(key.Data(), message.Data(), message.ByteLength(), signature.Data()));
  }

  Napi::Value verify_ed25519_each(const Napi::CallbackInfo& info) {
    const auto bytes = bytes_at(info, 0, "bytes");
    if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
      throw Napi::TypeError::New(info.Env(), "ends: a Uint32Array is needed");
    }
    const auto ends = info[1].As<Napi::Uint32Array>();
    const Pending pending(info.Env(), mailbox_);
    // Copied: what JavaScript does with them meanwhile is its own affair.
    verify_pool_.run([pending, bytes = std::vector<std::uint8_t>(bytes.Data(), bytes.Data() + bytes.ByteLength()),
                      ends = std::vector<std::uint32_t>(ends.Data(), ends.Data() + ends.ElementLength())] {
      pending.resolve([fits = mdmesh::verify_ed25519_each(bytes, ends)](Napi::Env env) {
        auto answer = Napi::Uint8Array::New(env, fits.size());
        std::copy(fits.begin(), fits.end(), answer.Data());
        return answer;
      });
    });
    return pending.promise();
  }

  Napi::Value device_size(const Napi::CallbackInfo& info) {
    mdmesh::DeviceSize size;
    throw_if(info.Env(), mdmesh::device_size(text_at(info, 0, "path"), size));
    auto object = Napi::Object::New(info.Env());
    object.Set("sizeSectors", static_cast<double>(size.size_sectors));
    object.Set("logicalBlockBytes", size.logical_block_bytes);
    return object;
  }

  Napi::Value array_info(const Napi::CallbackInfo& info) {
    mdmesh::ArrayInfo found;
    throw_if(info.Env(), mdmesh::get_array_info(text_at(info, 0, "md"), found));
    auto object = Napi::Object::New(info.Env());
    object.Set("level", found.level);
    object.Set("raidDisks", found.raid_disks);
    object.Set("activeDisks", found.active_disks);
    object.Set("workingDisks", found.working_disks);
    object.Set("failedDisks", found.failed_disks);
    object.Set("spareDisks", found.spare_disks);
    return object;
  }

  Napi::Value stop_array(const Napi::CallbackInfo& info) {
    return on_sysfs_pool(info.Env(), [md = text_at(info, 0, "md")] { return mdmesh::stop_array(md); });
  }

  Napi::Value set_disk_faulty(const Napi::CallbackInfo& info) {
    const auto major = static_cast<std::uint32_t>(number_at(info, 1, "major", 0, 4095));
    const auto minor = static_cast<std::uint32_t>(number_at(info, 2, "minor", 0, 1048575));
    return on_sysfs_pool(info.Env(), [md = text_at(info, 0, "md"), major, minor] {
      return mdmesh::set_disk_faulty(md, major, minor);
    });
  }

  Napi::Value dm_create(const Napi::CallbackInfo& info) {
    auto name = text_at(info, 0, "name");
    auto uuid = text_at(info, 1, "uuid");
    const Pending pending(info.Env(), mailbox_);
    sysfs_pool_.run([pending, name = std::move(name), uuid = std::move(uuid)] {
      mdmesh::DmDevice made;
      if (auto failure = mdmesh::dm_create(name, uuid, made)) return pending.settle(failure);
      pending.resolve([made](Napi::Env env) {
        auto object = Napi::Object::New(env);
        object.Set("major", made.major);
        object.Set("minor", made.minor);
        return object;
      });
    });
    return pending.promise();
  }

  Napi::Value dm_load(const Napi::CallbackInfo& info) {
    auto name = text_at(info, 0, "name");
    const std::uint64_t size_sectors = whole_at(info, 1, "sizeSectors");
    auto target = text_at(info, 2, "target");
    auto parameters = text_at(info, 3, "parameters");
    return on_sysfs_pool(info.Env(), [name = std::move(name), size_sectors, target = std::move(target), parameters = std::move(parameters)] {
      return mdmesh::dm_load(name, size_sectors, target, parameters);
    });
  }

  Napi::Value dm_resume(const Napi::CallbackInfo& info) {
    return on_sysfs_pool(info.Env(), [name = text_at(info, 0, "name")] { return mdmesh::dm_resume(name); });
  }

  Napi::Value dm_remove(const Napi::CallbackInfo& info) {
    return on_sysfs_pool(info.Env(), [name = text_at(info, 0, "name")] { return mdmesh::dm_remove(name); });
  }

  Napi::Value dm_message(const Napi::CallbackInfo& info) {
    return on_sysfs_pool(info.Env(), [name = text_at(info, 0, "name"), message = text_at(info, 1, "message")] {
      return mdmesh::dm_message(name, message);
    });
  }

  Napi::Value dm_status(const Napi::CallbackInfo& info) { return text_of_map(info, mdmesh::dm_status); }
  Napi::Value dm_table(const Napi::CallbackInfo& info) { return text_of_map(info, mdmesh::dm_table); }

  static Napi::Value text_of_map(const Napi::CallbackInfo& info, Outcome (*ask)(std::string_view, std::string&)) {
    std::string text;
    const auto failure = ask(text_at(info, 0, "name"), text);
    return failure ? info.Env().Null() : Napi::Value(Napi::String::New(info.Env(), text));
  }

  Napi::Value read_reservations(const Napi::CallbackInfo& info) {
    auto path = text_at(info, 0, "path");
    const Pending pending(info.Env(), mailbox_);
    reservation_pool_.run([pending, path = std::move(path)] {
      mdmesh::Reservations found;
      if (auto failure = mdmesh::read_reservations(path, found)) return pending.settle(failure);
      pending.resolve([found](Napi::Env env) {
        std::vector<std::string> keys;
        for (const auto key : found.keys) keys.push_back(hex_of(key));
        auto object = Napi::Object::New(env);
        object.Set("generation", found.generation);
        object.Set("keys", to_array(env, keys));
        object.Set("holder", found.holder == 0 ? env.Null() : Napi::Value(Napi::String::New(env, hex_of(found.holder))));
        object.Set("type", found.type);
        object.Set("persists", found.persists);
        return object;
      });
    });
    return pending.promise();
  }

  /** A call of reservation.h with a path and this node's key. */
  template <Outcome (*Call)(const std::string&, std::uint64_t)>
  Napi::Value with_key(const Napi::CallbackInfo& info) {
    auto path = text_at(info, 0, "path");
    const auto key = key_at(info, 1, "key");
    const Pending pending(info.Env(), mailbox_);
    reservation_pool_.run([pending, path = std::move(path), key] { pending.settle(Call(path, key)); });
    return pending.promise();
  }

  Napi::Value preempt_and_abort(const Napi::CallbackInfo& info) {
    auto path = text_at(info, 0, "path");
    const auto key = key_at(info, 1, "key");
    const auto victim = key_at(info, 2, "victim");
    const Pending pending(info.Env(), mailbox_);
    reservation_pool_.run([pending, path = std::move(path), key, victim] {
      pending.settle(mdmesh::preempt_and_abort(path, key, victim));
    });
    return pending.promise();
  }

  Napi::Value privileges(const Napi::CallbackInfo& info) {
    const auto env = info.Env();
    mdmesh::Privileges found;
    throw_if(env, mdmesh::read_privileges(found));
    const auto names = [env](std::uint64_t set) {
      const auto texts = mdmesh::capability_names(set);
      auto array = Napi::Array::New(env, texts.size());
      for (std::uint32_t i = 0; i < texts.size(); i++) array.Set(i, texts[i]);
      return array;
    };
    auto object = Napi::Object::New(env);
    object.Set("effective", names(found.effective));
    object.Set("permitted", names(found.permitted));
    object.Set("noNewPrivileges", found.no_new_privileges);
    object.Set("ioFlusher", mdmesh::is_io_flusher());
    return object;
  }

  void restrict_privileges(const Napi::CallbackInfo& info) {
    std::uint64_t keep = 0;
    for (const auto& name : texts_at(info, 0, "keep")) {
      const int number = mdmesh::capability_number(name);
      if (number < 0) throw Napi::RangeError::New(info.Env(), "keep: " + name + " is no capability");
      keep |= std::uint64_t{1} << number;
    }
    throw_if(info.Env(), mdmesh::restrict_privileges(keep, info[1].ToBoolean().Value()));
  }

  void become_io_flusher(const Napi::CallbackInfo& info) { throw_if(info.Env(), mdmesh::become_io_flusher()); }

  Napi::Value sd_notify_barrier(const Napi::CallbackInfo& info) {
    const auto timeout_ms = static_cast<int>(number_at(info, 0, "timeoutMs", 1, 600'000));
    return on_sysfs_pool(info.Env(), [timeout_ms] { return mdmesh::sd_notify_barrier(timeout_ms); });
  }

  Napi::Value sd_notify(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), mdmesh::sd_notify_state(text_at(info, 0, "state")));
  }

  std::shared_ptr<Mailbox> mailbox_;
  mdmesh::AttributeReader attributes_;
  mdmesh::Pool sysfs_pool_{"mdmesh-sysfs", kPoolThreadsMax};
  mdmesh::Pool disk_pool_{"mdmesh-read", kPoolThreadsMax};
  mdmesh::Pool reservation_pool_{"mdmesh-reserve", kPoolThreadsMax};
  /** One for each processor but that of the thread that asks. */
  mdmesh::Pool verify_pool_{"mdmesh-verify", std::max(2U, std::thread::hardware_concurrency()) - 1};
  mdmesh::DiskWriter own_blocks_;
  std::vector<std::weak_ptr<mdmesh::Watcher>> watchers_;
  std::weak_ptr<mdmesh::Guard> guard_;
};

Addon& addon_of(Napi::Env env) { return *env.GetInstanceData<Addon>(); }

/**
 * A timer of libuv's own. One of JavaScript's that was called off wakes the process all the same (Node moves the timer
 * beneath it only forward), and each setting of it reads the clock.
 */
class AlarmObject : public Napi::ObjectWrap<AlarmObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Alarm", {InstanceMethod<&AlarmObject::set>("set"), InstanceMethod<&AlarmObject::stop>("stop")});
  }

  explicit AlarmObject(const Napi::CallbackInfo& info) : ObjectWrap(info), ring_(new Ring(info.Env())) {
    ring_->callback = Napi::Persistent(function_at(info, 0, "callback"));
    uv_loop_t* loop = nullptr;
    if (napi_get_uv_event_loop(info.Env(), &loop) != napi_ok) throw Napi::Error::New(info.Env(), "no event loop");
    uv_timer_init(loop, &ring_->timer);
    ring_->timer.data = ring_;
    // As the watchers: what is to be done at its time does not keep a process alive that has nothing else.
    uv_unref(reinterpret_cast<uv_handle_t*>(&ring_->timer));
    info.Env().AddCleanupHook(&AlarmObject::end, ring_);
    // As long as the environment lives, referenced by the caller or not.
    Ref();
  }

 private:
  struct Ring {
    explicit Ring(Napi::Env given) : env(given), context(given, "mdmesh-alarm") {}
    Napi::Env env;
    Napi::AsyncContext context;
    Napi::FunctionReference callback;
    uv_timer_t timer{};
  };

  void set(const Napi::CallbackInfo& info) {
    const double delay_ms = number_at(info, 0, "delayMs", 0, kDeadlineAheadMsMax);
    uv_timer_start(&ring_->timer, &AlarmObject::rings, static_cast<std::uint64_t>(std::ceil(delay_ms)), 0);
  }
  void stop(const Napi::CallbackInfo&) { uv_timer_stop(&ring_->timer); }

  static void rings(uv_timer_t* timer) {
    auto* ring = static_cast<Ring*>(timer->data);
    const Napi::HandleScope scope(ring->env);
    try {
      ring->callback.MakeCallback(ring->env.Global(), std::initializer_list<napi_value>{}, ring->context);
    } catch (const Napi::Error& error) {
      napi_fatal_exception(ring->env, error.Value());
    }
  }

  static void end(Ring* ring) {
    uv_timer_stop(&ring->timer);
    ring->callback.Reset();
    // The handle's memory stays: the loop may look at it until it is gone itself, and the process ends with it.
    uv_close(reinterpret_cast<uv_handle_t*>(&ring->timer), nullptr);
  }

  Ring* ring_;
};

class WatcherObject : public Napi::ObjectWrap<WatcherObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Watcher",
                       {InstanceMethod<&WatcherObject::add>("add"), InstanceMethod<&WatcherObject::remove>("remove"),
                        InstanceMethod<&WatcherObject::close>("close")});
  }

  explicit WatcherObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const auto paths = texts_at(info, 0, "paths");
    heard_ = std::make_shared<Heard>();
    heard_->callback = Napi::Persistent(function_at(info, 1, "callback"));
    auto& addon = addon_of(info.Env());
    heard_->watcher = std::make_shared<mdmesh::Watcher>([weak = std::weak_ptr(heard_), mailbox = addon.mailbox()] {
      mailbox->post([weak](Napi::Env env) {
        const auto heard = weak.lock();
        if (heard == nullptr || heard->closed) return;
        heard->callback.Call({to_array(env, heard->watcher->take())});
      });
    });
    addon.at_end(std::weak_ptr(heard_->watcher));
    heard_->watcher->add(paths);
    // Until close() it watches, referenced by the caller or not.
    Ref();
  }

  ~WatcherObject() override { heard_->watcher->close(); }

 private:
  struct Heard {
    Napi::FunctionReference callback;
    std::shared_ptr<mdmesh::Watcher> watcher;
    bool closed = false;
  };

  Napi::Value add(const Napi::CallbackInfo& info) {
    return to_array(info.Env(), heard_->watcher->add(texts_at(info, 0, "paths")));
  }
  void remove(const Napi::CallbackInfo& info) { heard_->watcher->remove(texts_at(info, 0, "paths")); }
  void close(const Napi::CallbackInfo&) {
    if (std::exchange(heard_->closed, true)) return;
    heard_->watcher->close();
    Unref();
  }

  std::shared_ptr<Heard> heard_;
};

class GuardObject : public Napi::ObjectWrap<GuardObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "Guard",
        {InstanceMethod<&GuardObject::extend_lease>("extendLease"), InstanceMethod<&GuardObject::extend_grant>("extendGrant"),
         InstanceMethod<&GuardObject::end_lease>("endLease"), InstanceMethod<&GuardObject::drop>("drop"),
         InstanceMethod<&GuardObject::state>("state"), InstanceMethod<&GuardObject::loop_alive>("loopAlive"),
         InstanceMethod<&GuardObject::register_array>("registerArray"),
         InstanceMethod<&GuardObject::unregister_array>("unregisterArray"),
         InstanceMethod<&GuardObject::register_member>("registerMember"),
         InstanceMethod<&GuardObject::unregister_member>("unregisterMember"), InstanceMethod<&GuardObject::hold>("hold"),
         InstanceMethod<&GuardObject::hold_reads>("holdReads"), InstanceMethod<&GuardObject::let_reads>("letReads"),
         InstanceMethod<&GuardObject::restore_path>("restorePath"), InstanceMethod<&GuardObject::open>("open"), InstanceMethod<&GuardObject::suspend_range>("suspendRange"),
         InstanceMethod<&GuardObject::answer_gates>("answerGates"),
         InstanceMethod<&GuardObject::write_metadata>("writeMetadata"),
         InstanceMethod<&GuardObject::release_device>("releaseDevice"),
         InstanceMethod<&GuardObject::start_watchdog>("startWatchdog"),
         InstanceMethod<&GuardObject::watchdog_fd>("watchdogFd"),
         InstanceMethod<&GuardObject::stop_watchdog>("stopWatchdog"), InstanceMethod<&GuardObject::close>("close")});
  }

  explicit GuardObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    auto& addon = addon_of(info.Env());
    if (addon.has_guard()) throw to_error(info.Env(), {"EEXIST", "a guard runs in this process already; close it first"});
    told_ = std::make_shared<Told>();
    told_->callback = Napi::Persistent(function_at(info, 0, "onEvent"));
    mdmesh::Guard::Options options;
    if (info[1].IsObject()) {
      const auto given = info[1].As<Napi::Object>();
      if (given.Has("lockMemory")) options.lock_memory = given.Get("lockMemory").ToBoolean();
      if (given.Has("dropLimitMs")) {
        options.drop_limit_ns = mdmesh::ns_from_ms(number_of(info.Env(), given.Get("dropLimitMs"), "dropLimitMs", 1, 60'000));
      }
    }
    mailbox_ = addon.mailbox();
    guard_ = mdmesh::Guard::start(options, [weak = std::weak_ptr(told_), mailbox = mailbox_](const mdmesh::GuardEvent& event) {
      mailbox->post([weak, event](Napi::Env env) {
        if (const auto told = weak.lock()) tell(env, *told, event);
      });
    });
    addon.at_end(std::weak_ptr(guard_));
    Ref();
  }

  ~GuardObject() override {
    if (guard_ != nullptr) guard_->close();
  }

 private:
  struct Told {
    Napi::FunctionReference callback;
    /** Promises of drop(), by the number that the answering event carries. */
    std::multimap<std::uint64_t, Pending> drops;
  };

  static void tell(Napi::Env env, Told& told, const mdmesh::GuardEvent& event) {
    using Type = mdmesh::GuardEvent::Type;
    auto object = Napi::Object::New(env);
    object.Set("atMs", mdmesh::ms_from_ns(event.at_ns));
    Outcome outcome;
    switch (event.type) {
      case Type::grant_expired:
        object.Set("type", "grant-expired");
        break;
      case Type::lease_expired:
        object.Set("type", "lease-expired");
        break;
      case Type::drop_completed:
        object.Set("type", "drop-completed");
        break;
      case Type::drop_failed:
        outcome = mdmesh::errno_failure(event.error, std::string(event.md.data()) + ": its writes could not be held");
        object.Set("type", "drop-failed");
        object.Set("md", std::string(event.md.data()));
        object.Set("code", outcome->code);
        break;
    }
    if (event.type == Type::drop_completed || event.type == Type::drop_failed) {
      const auto end = told.drops.upper_bound(event.drop_request);
      for (auto one = told.drops.begin(); one != end; ++one) one->second.settle(outcome);
      told.drops.erase(told.drops.begin(), end);
    }
    told.callback.Call({object});
  }

  mdmesh::Guard& guard(const Napi::CallbackInfo& info) const {
    if (guard_ == nullptr) throw to_error(info.Env(), {"ESHUTDOWN", "the guard has been closed"});
    return *guard_;
  }

  static std::int64_t deadline_at(const Napi::CallbackInfo& info) {
    const double now_ms = mdmesh::ms_from_ns(mdmesh::boot_time_ns());
    return mdmesh::ns_from_ms(number_at(info, 0, "untilMs (BOOTTIME)", 0, now_ms + kDeadlineAheadMsMax));
  }

  void extend_lease(const Napi::CallbackInfo& info) { guard(info).extend_lease(deadline_at(info)); }
  void extend_grant(const Napi::CallbackInfo& info) { guard(info).extend_grant(deadline_at(info)); }
  void end_lease(const Napi::CallbackInfo& info) { guard(info).end_lease(); }
  void loop_alive(const Napi::CallbackInfo& info) { guard(info).loop_alive(); }

  Napi::Value drop(const Napi::CallbackInfo& info) {
    const Pending pending(info.Env(), mailbox_);
    told_->drops.emplace(guard(info).drop(), pending);
    return pending.promise();
  }

  Napi::Value state(const Napi::CallbackInfo& info) {
    const auto env = info.Env();
    auto& guard = this->guard(info);
    auto object = Napi::Object::New(env);
    object.Set("leaseUntilMs", mdmesh::ms_from_ns(guard.deadlines().lease_until_ns()));
    object.Set("grantUntilMs", mdmesh::ms_from_ns(guard.deadlines().grant_until_ns()));
    object.Set("dropping", guard.dropping());
    object.Set("realtime", guard.realtime());
    object.Set("locked", guard.memory_locked());
    auto arrays = Napi::Array::New(env);
    for (const auto& [md, standing] : guard.arrays()) {
      auto one = Napi::Object::New(env);
      one.Set("md", md);
      one.Set("standing", std::string(mdmesh::GatedArray::name_of(standing)));
      arrays.Set(arrays.Length(), one);
    }
    object.Set("arrays", arrays);
    return object;
  }

  void register_array(const Napi::CallbackInfo& info) {
    const auto md = text_at(info, 0, "md");
    const std::string directory = info[2].IsUndefined() ? "/sys/block/" + md + "/md" : text_at(info, 2, "mdDirectory");
    const bool reads_held = info[3].IsBoolean() && info[3].As<Napi::Boolean>().Value();
    throw_if(info.Env(), guard(info).register_array({md, whole_at(info, 1, "sizeSectors"), directory, reads_held}));
  }
  void unregister_array(const Napi::CallbackInfo& info) {
    throw_if(info.Env(), guard(info).unregister_array(text_at(info, 0, "md")));
  }
  void register_member(const Napi::CallbackInfo& info) {
    const bool layered = !info[2].IsUndefined();
    throw_if(info.Env(), guard(info).register_member(text_at(info, 0, "md"), text_at(info, 1, "device"),
                                                     layered ? text_at(info, 2, "map") : "", layered ? text_at(info, 3, "path") : ""));
  }
  void unregister_member(const Napi::CallbackInfo& info) {
    throw_if(info.Env(), guard(info).unregister_member(text_at(info, 0, "md"), text_at(info, 1, "device")));
  }

  Napi::Value hold(const Napi::CallbackInfo& info) {
    const auto md = text_at(info, 0, "md");
    auto& guard = this->guard(info);
    const Pending pending(info.Env(), mailbox_);
    guard.hold(md, [pending](const Outcome& outcome, mdmesh::GatedArray::Standing standing) {
      if (outcome) return pending.settle(outcome);
      pending.resolve([standing](Napi::Env env) {
        return Napi::String::New(env, std::string(mdmesh::GatedArray::name_of(standing)));
      });
    });
    return pending.promise();
  }

  Napi::Value hold_reads(const Napi::CallbackInfo& info) {
    const auto md = text_at(info, 0, "md");
    auto& guard = this->guard(info);
    const Pending pending(info.Env(), mailbox_);
    guard.hold_reads(md, [pending](const Outcome& outcome) { pending.settle(outcome); });
    return pending.promise();
  }

  Napi::Value let_reads(const Napi::CallbackInfo& info) {
    const auto md = text_at(info, 0, "md");
    auto& guard = this->guard(info);
    const Pending pending(info.Env(), mailbox_);
    guard.let_reads(md, [pending](const Outcome& outcome) { pending.settle(outcome); });
    return pending.promise();
  }

  Napi::Value restore_path(const Napi::CallbackInfo& info) {
    const auto md = text_at(info, 0, "md");
    const auto device = text_at(info, 1, "device");
    auto& guard = this->guard(info);
    const Pending pending(info.Env(), mailbox_);
    guard.restore_path(md, device, [pending](const Outcome& outcome) { pending.settle(outcome); });
    return pending.promise();
  }

  Napi::Value open(const Napi::CallbackInfo& info) {
    const auto md = text_at(info, 0, "md");
    auto& guard = this->guard(info);
    const Pending pending(info.Env(), mailbox_);
    guard.suspend_range(md, 0, 0, [pending](const Outcome& outcome) { pending.settle(outcome); });
    return pending.promise();
  }

  Napi::Value suspend_range(const Napi::CallbackInfo& info) {
    const auto md = text_at(info, 0, "md");
    const std::uint64_t lo_sector = whole_at(info, 1, "loSector");
    const std::uint64_t hi_sector = whole_at(info, 2, "hiSector");
    auto& guard = this->guard(info);
    const Pending pending(info.Env(), mailbox_);
    guard.suspend_range(md, lo_sector, hi_sector, [pending](const Outcome& outcome) { pending.settle(outcome); });
    return pending.promise();
  }

  Napi::Value answer_gates(const Napi::CallbackInfo& info) {
    const auto md = text_at(info, 0, "md");
    auto devices = texts_at(info, 1, "blockedDevices");
    auto& guard = this->guard(info);
    const Pending pending(info.Env(), mailbox_);
    guard.answer_gates(md, std::move(devices), [pending](const Outcome& outcome) { pending.settle(outcome); });
    return pending.promise();
  }

  Napi::Value write_metadata(const Napi::CallbackInfo& info) {
    const auto env = info.Env();
    if (!info[0].IsArray()) throw Napi::TypeError::New(env, "writes: an array is needed");
    const auto given = info[0].As<Napi::Array>();
    std::vector<mdmesh::DiskWrite> writes;
    std::vector<std::string> paths;
    for (std::uint32_t i = 0; i < given.Length(); i++) {
      const Napi::Value one = given.Get(i);
      if (!one.IsObject()) throw Napi::TypeError::New(env, "writes: {path, offsetBytes, bytes} is needed");
      const auto object = one.As<Napi::Object>();
      const Napi::Value path = object.Get("path");
      const Napi::Value bytes = object.Get("bytes");
      if (!path.IsString() || !bytes.IsTypedArray() || bytes.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
        throw Napi::TypeError::New(env, "writes: {path: string, offsetBytes: number, bytes: Uint8Array} is needed");
      }
      const auto source = bytes.As<Napi::Uint8Array>();
      mdmesh::DiskWrite write{path.As<Napi::String>().Utf8Value(), whole_of(env, object.Get("offsetBytes"), "offsetBytes"),
                              mdmesh::AlignedBuffer(source.ByteLength())};
      if (source.ByteLength() > 0) std::memcpy(write.bytes.bytes(), source.Data(), source.ByteLength());
      paths.push_back(write.path);
      writes.push_back(std::move(write));
    }
    auto& guard = this->guard(info);
    const Pending pending(env, mailbox_);
    guard.write_metadata(std::move(writes), [pending, paths = std::move(paths)](std::vector<Outcome> outcomes) {
      pending.resolve([paths, outcomes = std::move(outcomes)](Napi::Env env) {
        auto results = Napi::Array::New(env, outcomes.size());
        for (std::uint32_t i = 0; i < outcomes.size(); i++) {
          auto result = Napi::Object::New(env);
          result.Set("path", paths[i]);
          result.Set("error", env.Null());
          if (outcomes[i]) {
            auto error = Napi::Object::New(env);
            error.Set("code", outcomes[i]->code);
            error.Set("text", outcomes[i]->text);
            result.Set("error", error);
          }
          results.Set(i, result);
        }
        return results;
      });
    });
    return pending.promise();
  }

  Napi::Value release_device(const Napi::CallbackInfo& info) {
    const auto path = text_at(info, 0, "path");
    auto& guard = this->guard(info);
    const Pending pending(info.Env(), mailbox_);
    guard.release_device(path, [pending] { pending.settle({}); });
    return pending.promise();
  }

  Napi::Value start_watchdog(const Napi::CallbackInfo& info) {
    auto path = text_at(info, 0, "path");
    const auto timeout_seconds = static_cast<int>(number_at(info, 1, "timeoutSeconds", 1, 3600));
    const double loop_late_ms = number_at(info, 2, "loopLateMs", 1, 600'000);
    auto& guard = this->guard(info);
    const Pending pending(info.Env(), mailbox_);
    auto settle = [pending](const Outcome& outcome) { pending.settle(outcome); };
    if (info[3].IsUndefined()) {
      guard.start_watchdog(std::move(path), timeout_seconds, mdmesh::ns_from_ms(loop_late_ms), std::move(settle));
    } else {
      const auto fd = static_cast<int>(number_at(info, 3, "fd", 0, 1'000'000));
      guard.adopt_watchdog(fd, std::move(path), timeout_seconds, mdmesh::ns_from_ms(loop_late_ms), std::move(settle));
    }
    return pending.promise();
  }

  Napi::Value watchdog_fd(const Napi::CallbackInfo& info) {
    const int fd = guard(info).watchdog_descriptor();
    return fd < 0 ? info.Env().Null() : Napi::Value(Napi::Number::New(info.Env(), fd));
  }

  Napi::Value stop_watchdog(const Napi::CallbackInfo& info) {
    auto& guard = this->guard(info);
    const Pending pending(info.Env(), mailbox_);
    guard.stop_watchdog([pending](const Outcome& outcome) { pending.settle(outcome); });
    return pending.promise();
  }

  void close(const Napi::CallbackInfo&) {
    if (guard_ == nullptr) return;
    guard_->close();
    guard_.reset();
    for (auto& [request, pending] : told_->drops) pending.settle(Failure{"ESHUTDOWN", "the guard was closed before the arrays were held"});
    told_->drops.clear();
    Unref();
  }

  std::shared_ptr<Told> told_;
  std::shared_ptr<Mailbox> mailbox_;
  std::shared_ptr<mdmesh::Guard> guard_;
};

Addon::Addon(Napi::Env env, Napi::Object exports) : mailbox_(std::make_shared<Mailbox>(env)) {
  alarm_class = Napi::Persistent(AlarmObject::define(env));
  watcher_class = Napi::Persistent(WatcherObject::define(env));
  guard_class = Napi::Persistent(GuardObject::define(env));
  DefineAddon(exports, {
                           InstanceValue("apiVersion", Napi::Number::New(env, kApiVersion), napi_enumerable),
                           InstanceMethod("bootTimeMs", &Addon::boot_time_ms),
                           InstanceMethod("readFiles", &Addon::read_files),
                           InstanceMethod("writeFile", &Addon::write_file),
                           InstanceMethod("alarm", &Addon::alarm),
                           InstanceMethod("watch", &Addon::watch),
                           InstanceMethod("readDirect", &Addon::read_direct),
                           InstanceMethod("writeDirect", &Addon::write_direct),
                           InstanceMethod("deviceSize", &Addon::device_size),
                           InstanceMethod("arrayInfo", &Addon::array_info),
                           InstanceMethod("stopArray", &Addon::stop_array),
                           InstanceMethod("setDiskFaulty", &Addon::set_disk_faulty),
                           InstanceMethod("dmCreate", &Addon::dm_create),
                           InstanceMethod("dmLoad", &Addon::dm_load),
                           InstanceMethod("dmResume", &Addon::dm_resume),
                           InstanceMethod("dmRemove", &Addon::dm_remove),
                           InstanceMethod("dmMessage", &Addon::dm_message),
                           InstanceMethod("dmStatus", &Addon::dm_status),
                           InstanceMethod("dmTable", &Addon::dm_table),
                           InstanceMethod("readReservations", &Addon::read_reservations),
                           InstanceMethod("registerKey", &Addon::with_key<mdmesh::register_key>),
                           InstanceMethod("confirmKey", &Addon::with_key<mdmesh::confirm_key>),
                           InstanceMethod("reserve", &Addon::with_key<mdmesh::reserve>),
                           InstanceMethod("preemptAndAbort", &Addon::preempt_and_abort),
                           InstanceMethod("clearReservations", &Addon::with_key<mdmesh::clear_reservations>),
                           InstanceMethod("privileges", &Addon::privileges),
                           InstanceMethod("restrictPrivileges", &Addon::restrict_privileges),
                           InstanceMethod("becomeIoFlusher", &Addon::become_io_flusher),
                           InstanceMethod("sdNotify", &Addon::sd_notify),
                           InstanceMethod("sdNotifyBarrier", &Addon::sd_notify_barrier),
                           InstanceMethod("verifyEd25519", &Addon::verify_ed25519),
                           InstanceMethod("verifyEd25519Each", &Addon::verify_ed25519_each),
                           InstanceMethod("startGuard", &Addon::start_guard),
                       });
  // Registered after the mailbox's own hook, hence run before it: nobody posts into a function that is gone.
  env.AddCleanupHook([this] { end(); });
}

void Addon::end() {
  mailbox_->close();
  if (const auto guard = guard_.lock()) guard->close();
  for (const auto& one : watchers_) {
    if (const auto watcher = one.lock()) watcher->close();
  }
}

}  // namespace

NODE_API_ADDON(Addon)
