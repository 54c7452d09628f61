-- Adds an account, or replaces the password and roles of one.
--
-- KEYS[1]  <prefix>account:{<user>}, hash
-- ARGV[1]  password hash, argon2id in PHC format
-- ARGV[2]  roles, separated by commas
-- ARGV[3]  now, RFC 3339
-- ARGV[4]  "1" to replace an account that exists, else "0"
-- ARGV[5]  until when the password is good, for one login, RFC 3339; "" for any other
--
-- When Redis is full: refused.
-- Returns 1 if the account was added, 2 if it was replaced, 0 if it exists and
-- nothing was changed. A hash without a password (the identity of a user of
-- another issuer, or what is left of an account that was removed) is no account: it
-- becomes one and keeps its identity and generation.
local account = KEYS[1]
local password, roles, now, replace, once = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local exists = redis.call('HEXISTS', account, 'password_hash') == 1
if exists and replace ~= '1' then
  return 0
end
redis.call('HSETNX', account, 'disabled', 'false')
redis.call('HSETNX', account, 'created_at', now)
if once ~= '' then
  redis.call('HSET', account, 'once', once) -- first, or the password would be good for ever
end
redis.call('HSET', account, 'password_hash', password, 'roles', roles) -- which makes it one
if once == '' then
  redis.call('HDEL', account, 'once')
end
if exists then
  return 2
end
return 1
