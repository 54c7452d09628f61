-- Takes a password that is good for one login, so that it is good for no other.
--
-- KEYS[1]  <prefix>account:{<user>}, hash
-- ARGV[1]  hash of the password that was given
-- ARGV[2]  what stands in its place, which no password makes
--
-- When Redis is full: goes on.
-- Returns 1 if it was good, 0 if it was used or replaced meanwhile.
local account, password, spent = KEYS[1], ARGV[1], ARGV[2]

if redis.call('HGET', account, 'password_hash') ~= password or redis.call('HEXISTS', account, 'once') == 0 then
  return 0
end
redis.call('HDEL', account, '') -- nothing, and not refused
redis.call('HSET', account, 'password_hash', spent) -- before once, or it would be good for ever
redis.call('HDEL', account, 'once')
return 1
