-- Sets one field of an account that exists.
--
-- KEYS[1]  <prefix>account:{<user>}, hash
-- ARGV[1]  field
-- ARGV[2]  value
--
-- Returns 1 if it was set, 0 if there is no such account (a hash without a
-- password is none).
local account = KEYS[1]
local field, value = ARGV[1], ARGV[2]

if redis.call('HEXISTS', account, 'password_hash') == 0 then
  return 0
end
redis.call('HSET', account, field, value)
return 1
