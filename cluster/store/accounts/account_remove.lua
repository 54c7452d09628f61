-- Removes an account. What is left of it is the generation of its tokens, so that
-- those of another account of that name are later ones.
--
-- KEYS[1]  <prefix>account:{<user>}, hash
--
-- When Redis is full: goes on.
-- Returns the generation that begins, at least 2; minus that of an account that was
-- removed before; 0 if there never was one.
local account = KEYS[1]

if redis.call('HEXISTS', account, 'password_hash') == 0 then
  if redis.call('HEXISTS', account, 'identity') == 1 then
    return 0
  end
  return -(tonumber(redis.call('HGET', account, 'generation')) or 0)
end
redis.call('HDEL', account, '') -- nothing, and not refused
-- The generation first: it alone does no harm.
redis.call('HSETNX', account, 'generation', 1)
local generation = redis.call('HINCRBY', account, 'generation', 1)
redis.call('HDEL', account, 'password_hash', 'roles', 'identity', 'disabled', 'created_at', 'once')
return generation
