-- Sets fields of an account that exists, and begins a new generation of its
-- tokens.
--
-- KEYS[1]  <prefix>account:{<user>}, hash
-- ARGV[…]  fields and their values, in turn; "" removes a field
--
-- When Redis is full: goes on.
-- Returns the new generation, at least 2, or 0 if there is no such account (a
-- hash without a password is none) and nothing was changed. A hash without a
-- generation is in its first.
local account = KEYS[1]

if redis.call('HEXISTS', account, 'password_hash') == 0 then
  return 0
end
redis.call('HDEL', account, '') -- nothing, and not refused
-- The generation first: it alone does no harm.
redis.call('HSETNX', account, 'generation', 1)
local generation = redis.call('HINCRBY', account, 'generation', 1)
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', account, ARGV[i])
  else
    redis.call('HSET', account, ARGV[i], ARGV[i + 1])
  end
end
return generation
