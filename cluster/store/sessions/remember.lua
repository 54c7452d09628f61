-- Remembers what was asked for under an idempotency key, unless something is.
-- KEYS[1] = conclave:request:{id}   string
-- ARGV[1] = fingerprint of what is asked for
-- ARGV[2] = ms to remember it
-- When Redis is full: refused; what is remembered already is returned
-- returns  what is remembered
local kept = redis.call('GET', KEYS[1])
if kept then
  return kept
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
