/*
Model of the switch of a key from one epoch to another, for spin 6.5 and later. A test of
this package, TestSwitchModel, runs it; by hand, with any of the definitions below:

	spin -DK=2 -DTABLE=0 -a switch.pml && gcc -O2 -DSAFETY -DNOREDUCE -DCOLLAPSE -o pan pan.c && ./pan -E

What is in it. A key has epoch 1 (index 0) and K attempts at a reshare (1 to K, ascending by
number, then by descending hash: of two, the one with the higher index counts). Each has a
parent, a number, which may be that of another attempt, and a committee, chosen at the start in
every combination that TABLE allows. N honest members, each a process; beside them F members of
each committee are malicious: they attest and consent to everything, keep all their shares
and sign whenever honest members do. The threshold is T everywhere. The servers are malicious: a
signature that exists is known to everybody who wants it, at any time, in any order and
as often as it likes, or never. So they need no process: a step of a member is enabled as soon
as what it needs exists, and nothing forces it to happen. That covers messages lost, late and
repeated, a restored Redis, cancellation seen by some, numbers used again, members away
for ever. A crash between steps loses nothing, as each step ends with what is durable.

What is not in it. The MPC (enough honest members of the parent's committee that took part give
correct shares: the certificate's share points hold that), a malicious majority, entries that are
no epochs, and sealed copies but with RESTORE and WIPES.

Properties, checked in every state (Monitor):
 1  never two epochs that both sign for good: once every certificate that exists was delivered
    and what may be deleted was, at most one epoch has T members that hold its share and agree
 2  never an epoch certified whose honest members cannot all get their share, if it counts for them
 3  always an epoch that T honest members can sign with: with the certificates that honest members
    hold, and with all that exist
 4  what is given up stays given up: once the honest members of the parent have closed an attempt
    with too few consents, it is never certified
 5  where any two quorums share an honest member (F = 0), one number is certified once
 6  nothing is signed under an epoch below the one that a request names
With RESTORE, one device goes back once to a state that it had (sealed copies of its shares exist;
property 4 does not hold then). With WIPES, that many devices lose everything, or go back to their first share,
and Redis goes back once; with LOST_COPIES besides there are no copies, and devices only go
back. The one property is then that T members' shares of one epoch are left, on devices or as
sealed copies.

Rules. Each is a definition that is 1; with 0 the rule is taken out, and the test demands a
counter-example.
*/
#ifndef SYNC
#define SYNC 1 /* a share is durable before its attestation leaves */
#endif
#ifndef SEEN
#define SEEN 1 /* a member takes part in no number that is not above all it has seen */
#endif
#ifndef CERT
#define CERT 1 /* lower shares are deleted with the certificate of a higher epoch only */
#endif
#ifndef REREAD
#define REREAD 1 /* a member of the certified epoch deletes only when it holds its share of it */
#endif
#ifndef KEEP_GIVEN
#define KEEP_GIVEN 1 /* a share stays when its attempt is given up */
#endif
#ifndef KEEP_SIBLING
#define KEEP_SIBLING 1 /* a share stays when a lower epoch is certified */
#endif
#ifndef REFUSE
#define REFUSE 1 /* a member signs only under the highest epoch whose certificate it holds */
#endif
#ifndef TIE
#define TIE 1 /* of two certificates with one number the lower hash counts */
#endif
#ifndef ALL
#define ALL 1 /* a certificate has an attestation of every member */
#endif
#ifndef LAST
#define LAST 1 /* consent is given to what all members have attested */
#endif
#ifndef CHAIN
#define CHAIN 1 /* a certificate counts only if its parent's does */
#endif
#ifndef QUORUM
#define QUORUM 1 /* a certificate has the consent of T members of the parent */
#endif
#ifndef SIGNED
#define SIGNED 1 /* members join and consent only to what a coordinator has signed */
#endif
#ifndef PARENT
#define PARENT 1 /* members join and consent only to a child of the epoch they are in */
#endif
#ifndef GIVEN_UP
#define GIVEN_UP 1 /* no consent to an attempt that was given up */
#endif
#ifndef ONE
#define ONE 1 /* no two consents to one number */
#endif
#ifndef ASCENDING
#define ASCENDING 1 /* no consent below an earlier one */
#endif
#ifndef MIN
#define MIN 1 /* nothing is signed under an epoch below the request's */
#endif
#ifndef KEEP_COPIES
#define KEEP_COPIES 1 /* the server deletes copies of lower epochs only if it has all of the new one */
#endif
/* How an epoch is chosen among the certified: 1 the highest number, as Head does; 0 the first
   that follows the epoch one is in; 2 a walk from epoch 1 to the child with the higher number,
   where with PLAIN shares are deleted by number alone. */
#ifndef ORDER
#define ORDER 1
#endif
#ifndef K
#define K 2 /* attempts, at most 3 */
#endif
#ifndef N
#define N 4 /* honest members, 3 to 6 */
#endif
#ifndef T
#define T 2
#endif
#ifndef F
#define F 1
#endif
#ifndef TABLE
#define TABLE 0 /* see choose */
#endif
#define E (K + 1)
#define BIT(i) (1 << (i))
#define HAS(m, i) (((m) >> (i)) & 1)
#define FAULTY(e) (com[e] == 0 -> F + 2 : F) /* malicious members of a committee; all of a rogue one */

/* The attempts: honest members as a bit set, 0 for a rogue committee; parent; number; ancestors and itself. */
byte com[E]; byte par[E]; byte num[E]; byte chain[E];
byte all; /* honest members of any committee */

/* What a member keeps, as bit sets of epochs but for seen, a number, and head, an epoch. */
byte share[N]; byte seen[N]; byte join[N]; byte con[N]; byte give[N]; byte cert[N]; byte head[N];

/* What exists of its attestations, consents and round messages as a member of the parent. */
byte att[N]; byte sig[N]; byte deal[N];
byte ok = 1;   /* the certified epochs */
byte dead = 0; /* attempts that are closed: property 4 */
#ifdef RESTORE
byte victim; byte taken = 0;
byte s_share; byte s_seen; byte s_join; byte s_con; byte s_give; byte s_cert; byte s_head;
#endif
#ifdef WIPES
byte wiped = 0;
byte copy[N];
byte redis = 0;
#endif

/* Scratch, no part of the state. */
hidden byte i, j, x, y, hd, u, n1, n2, del;
hidden byte count[E];

/* certified sets ok, and checks property 4. */
inline certified() {
	x = 1;
	i = 1;
	do
	:: i > K -> break
	:: else ->
		n1 = 0; n2 = 0; y = 0; j = 0;
		do
		:: j == N -> break
		:: else ->
			if
			:: HAS(com[i], j) && !HAS(att[j], i) -> n1++
			:: else
			fi;
			if
			:: HAS(com[i], j) && HAS(att[j], i) -> y++
			:: else
			fi;
			if
			:: HAS(com[par[i]], j) && HAS(sig[j], i) -> n2++
			:: else
			fi;
			j++
		od;
		if
		:: (ALL -> n1 == 0 : y + FAULTY(i) >= T) && (!CHAIN || HAS(x, par[i])) && n2 + FAULTY(par[i]) >= (QUORUM -> T : T - 1) -> x = x | BIT(i)
		:: else
		fi;
		i++
	od;
	ok = x;
#ifndef RESTORE
#ifndef WIPES
	i = 1;
	do
	:: i > K -> break
	:: else ->
		if
		:: !HAS(dead, i) && com[i] != 0 && !HAS(ok, i) ->
			n1 = 0; n2 = 0; j = 0;
			do
			:: j == N -> break
			:: else ->
				if
				:: HAS(com[par[i]], j) && HAS(sig[j], i) -> n2++
				:: HAS(com[par[i]], j) && !HAS(sig[j], i) && !HAS(give[j], i) && head[j] == par[i] -> n1++
				:: HAS(com[par[i]], j) && !HAS(sig[j], i) && !HAS(give[j], i) && head[j] < par[i] -> n1++
				:: else
				fi;
				j++
			od;
			if
			:: n1 + n2 + FAULTY(par[i]) < T -> dead = dead | BIT(i)
			:: else
			fi
		:: else
		fi;
		assert(!(HAS(dead, i) && HAS(ok, i)));
		i++
	od;
#endif
#endif
	x = 0; y = 0; n1 = 0; n2 = 0; i = 0; j = 0
}

/* the child of epoch p with the highest number among the certificates of set u, 0 if there is none */
#define CHILD(u, p) (HAS(u, 3) && par[3 % E] == p -> 3 : (HAS(u, 2) && par[2 % E] == p -> 2 : (HAS(u, 1) && par[1] == p -> 1 : 0)))
/* the epoch on p's branch where it leaves the chain of head hd */
#define BRANCH(p) (HAS(chain[hd], par[p]) -> p : (HAS(chain[hd], par[par[p]]) -> par[p] : par[par[p]]))

/* adopt sets hd, the head of member m with the certificates before, when it gets those of u besides */
inline adopt(m, u) {
	hd = head[m];
#if ORDER == 2
	hd = CHILD(cert[m] | (u), 0);
	x = (hd -> CHILD(cert[m] | (u), hd) : 0);
	hd = (x -> x : hd);
	x = (hd -> CHILD(cert[m] | (u), hd) : 0);
	hd = (x -> x : hd);
#else
	x = 1;
	do
	:: x > K -> break
	:: else ->
		if
		:: HAS(u, x) && !HAS(cert[m], x) ->
			if
#if ORDER == 0
			:: par[x] == hd -> hd = x
#else
			:: num[x] > num[hd] -> hd = x
			:: TIE && num[x] == num[hd] && x > hd -> hd = x
#endif
			:: else
			fi
		:: else
		fi;
		x++
	od;
#endif
	x = 0
}

/* lower sets del to what a member with head hd deletes */
inline lower() {
#if ORDER == 2 && !defined(PLAIN)
	del = 0; x = 0;
	do
	:: x > K -> break
	:: else ->
		if
		:: x != hd && (HAS(chain[hd], x) || CHILD(chain[hd], par[BRANCH(x)]) > BRANCH(x)) -> del = del | BIT(x)
		:: else
		fi;
		x++
	od;
	x = 0
#else
	del = (KEEP_SIBLING -> BIT(hd) - 1 : 255 - BIT(hd))
#endif
}

#ifdef LOST_COPIES
#define COPY(m, e) 0
#else
#ifdef WIPES
#define COPY(m, e) HAS(copy[m], e)
#else
#ifdef RESTORE
#define COPY(m, e) (HAS(att[m], e) || (e == 0 && HAS(com[0], m)))
#else
#define COPY(m, e) 0
#endif
#endif
#endif

/* able counts in count the honest members that can sign under each epoch once they all hold the certificates of set u */
inline able(u) {
	i = 0;
	do :: i > K -> break :: else -> count[i] = 0; i++ od;
	i = 0;
	do
	:: i == N -> break
	:: else ->
		adopt(i, u);
		if
		:: HAS(com[hd], i) && (HAS(share[i], hd) || COPY(i, hd)) -> count[hd]++
		:: else
		fi;
		i++
	od;
	n1 = 0; i = 0;
	do
	:: i > K -> break
	:: else ->
		if :: count[i] >= T -> n1++ :: else fi;
		i++
	od
}

/* willing counts those that do sign */
inline willing(u) {
	i = 0;
	do :: i > K -> break :: else -> count[i] = 0; i++ od;
	i = 0;
	do
	:: i == N -> break
	:: else ->
		adopt(i, u);
		del = 0;
		if
		:: HAS(share[i], hd) || !HAS(com[hd], i) -> lower()
		:: else
		fi;
		j = 0;
		do
		:: j > K -> break
		:: else ->
			if
			:: HAS(com[j], i) && HAS(share[i], j) && !HAS(del, j) && (j == hd || (!REFUSE && HAS(ok, j))) -> count[j]++
			:: else
			fi;
			j++
		od;
		i++
	od;
	n1 = 0; i = 0;
	do
	:: i > K -> break
	:: else ->
		if :: com[i] != 0 && count[i] > 0 && count[i] + F >= T -> n1++ :: else fi;
		i++
	od
}

proctype Monitor() {
	do
	:: d_step {
#ifdef WIPES
		/* shares of one epoch are left */
		n1 = 0; i = 0;
		do
		:: i > K -> break
		:: else ->
			n2 = 0; j = 0;
			do
			:: j == N -> break
			:: else ->
				if :: HAS(com[i], j) && (HAS(share[j], i) || COPY(j, i)) -> n2++ :: else fi;
				j++
			od;
			if :: n2 >= T -> n1++ :: else fi;
			i++
		od;
		assert(n1 > 0);
#else
		/* property 1 */
		willing(ok);
		assert(n1 <= 1);
		/* property 2 */
		j = 1;
		do
		:: j > K -> break
		:: HAS(ok, j) ->
			i = 0;
			do
			:: i == N -> break
			:: else ->
				if
				:: HAS(com[j], i) ->
					adopt(i, chain[j]);
					assert(hd != j || HAS(share[i], j) || COPY(i, j))
				:: else
				fi;
				i++
			od;
			j++
		:: else -> j++
		od;
		/* property 3 */
		able(ok);
		assert(n1 >= 1);
		u = 0; i = 0;
		do
		:: i == N -> break
		:: else -> u = u | cert[i]; i++
		od;
		able(u);
		assert(n1 >= 1);
#endif
		/* property 5 */
#if F == 0 && !defined(WIPES)
		i = 2;
		do
		:: i > K -> break
		:: else -> assert(!(HAS(ok, i) && HAS(ok, i - 1) && num[i] == num[i - 1] && par[i] == par[i-1])); i++
		od;
#endif
		/* property 6: sign attempts under each member's epoch, for each request there may be */
		i = 0;
		do
		:: i == N -> break
		:: else ->
			j = 0;
			do
			:: j > K -> break
			:: else ->
				if
				:: HAS(ok, j) && HAS(com[head[i]], i) && HAS(share[i], head[i]) && (!MIN || num[head[i]] >= num[j]) -> assert(num[head[i]] >= num[j])
				:: else
				fi;
				j++
			od;
			i++
		od;
		i = 0; j = 0; u = 0; x = 0; y = 0; n1 = 0; n2 = 0; hd = 0; del = 0;
		do :: i > K -> break :: else -> count[i] = 0; i++ od;
		i = 0
	}
	od
}

#define ASKED(e) (!SIGNED || com[e] != 0)
#define ONPARENT(m, e) (PARENT -> head[m] == par[e] : HAS(cert[m], par[e]))

/* write stores a share under its number, over another one of that number. */
inline write(m, e) {
	y = 1;
	do
	:: y > K -> break
	:: else ->
		if :: num[y] == num[e] -> share[m] = share[m] & (255 - BIT(y)) :: else fi;
		y++
	od;
	y = 0;
	share[m] = share[m] | BIT(e)
}

#define DEALT(e) (HAS(deal[0], e) + HAS(deal[1], e) + HAS(deal[2], e) + (N > 3 -> HAS(deal[3 % N], e) : 0) + (N > 4 -> HAS(deal[4 % N], e) : 0) + (N > 5 -> HAS(deal[5 % N], e) : 0) + F >= T)

/* joins: a member takes part in an attempt; with its old share it deals for the new ones. */
inline joins(m, e) {
	d_step {
		!HAS(join[m] | give[m] | att[m] | deal[m], e) && (HAS(com[e], m) || HAS(com[par[e]], m)) && ONPARENT(m, e) && ASKED(e) && (!SEEN || num[e] > seen[m]) && (HAS(com[par[e]], m) || DEALT(e))
		->
		seen[m] = (seen[m] > num[e] -> seen[m] : num[e]);
		join[m] = join[m] | BIT(e);
		if
		:: HAS(com[par[e]], m) && HAS(share[m], par[e]) -> deal[m] = deal[m] | BIT(e)
		:: else
		fi
	}
}


/* attests: the MPC is done; the share is written, then the attestation leaves. */
inline attests(m, e) {
	d_step {
		HAS(join[m], e) && HAS(com[e], m) && !HAS(att[m] | give[m], e) && head[m] < e && DEALT(e)
		->
		write(m, e);
		att[m] = att[m] | BIT(e);
#ifdef WIPES
		copy[m] = copy[m] | BIT(e);
#endif
		share[m] = (CERT -> share[m] : share[m] & (255 - (BIT(e) - 1)));
		certified()
	}
}

/* crashes, without SYNC: between the statement and the share */
inline crashes(m, e) {
	d_step {
		!SYNC && HAS(join[m], e) && HAS(com[e], m) && !HAS(att[m] | give[m], e) && head[m] < e && DEALT(e)
		->
		att[m] = att[m] | BIT(e);
		join[m] = join[m] & (255 - BIT(e));
		certified()
	}
}

#define ATTD(m, e) (!HAS(com[e], m) || HAS(att[m], e))
#define ATTESTED(e) (!LAST || (ATTD(0, e) && ATTD(1, e) && ATTD(2, e) && (N < 4 || ATTD(3 % N, e)) && (N < 5 || ATTD(4 % N, e)) && (N < 6 || ATTD(5 % N, e))))

#define CLASH(y, e) ((ONE && num[y] == num[e]) || (ASCENDING && num[y] > num[e]))
#define OPEN(m, e) !((HAS(con[m], 1) && CLASH(1, e)) || (K > 1 && HAS(con[m], 2 % E) && CLASH(2 % E, e)) || (K > 2 && HAS(con[m], 3 % E) && CLASH(3 % E, e)))

inline consents(m, e) {
	d_step {
		HAS(com[par[e]], m) && !HAS(con[m] | sig[m], e) && ATTESTED(e) && ONPARENT(m, e) && ASKED(e) && OPEN(m, e) && (!GIVEN_UP || !HAS(give[m], e))
		->
		con[m] = con[m] | BIT(e);
		sig[m] = sig[m] | BIT(e);
		certified()
	}
}

/* gives: the deadline passed or the attempt was cancelled, as far as this member knows. */
inline gives(m, e) {
	d_step {
		!HAS(con[m] | give[m], e) && head[m] < e && com[e] != 0 && (HAS(com[par[e]], m) || (!KEEP_GIVEN && HAS(join[m], e)))
		->
		give[m] = give[m] | BIT(e);
		share[m] = (KEEP_GIVEN -> share[m] : share[m] & (255 - BIT(e)));
		certified()
	}
}

/* receives: a certificate, with those it rests on; lower shares are deleted if that is allowed. */
inline receives(m, e) {
	d_step {
		HAS(all, m) && HAS(ok, e) && !HAS(cert[m], e)
		->
		adopt(m, chain[e]);
		head[m] = hd;
		cert[m] = cert[m] | chain[e];
		seen[m] = (seen[m] > num[e] -> seen[m] : num[e]);
		if
		:: !REREAD || !HAS(com[hd], m) || HAS(share[m], hd) -> lower(); share[m] = share[m] & (255 - del); del = 0
		:: else
		fi;
		hd = 0;
		certified()
	}
}

/* deletes: later, when a missing share was fetched. */
inline deletes(m) {
	d_step {
		head[m] > 0 && (share[m] & (255 - BIT(head[m]))) != 0 && (!REREAD || !HAS(com[head[m]], m) || HAS(share[m], head[m]))
		->
		hd = head[m];
		lower();
		share[m] = share[m] & (255 - del);
		del = 0; hd = 0
	}
}

proctype Member(byte m) {
	do
	:: joins(m, 1)
	:: attests(m, 1)
	:: crashes(m, 1)
	:: consents(m, 1)
	:: gives(m, 1)
	:: receives(m, 1)
#if K > 1
	:: joins(m, 2)
	:: attests(m, 2)
	:: crashes(m, 2)
	:: consents(m, 2)
	:: gives(m, 2)
	:: receives(m, 2)
#endif
#if K > 2
	:: joins(m, 3)
	:: attests(m, 3)
	:: crashes(m, 3)
	:: consents(m, 3)
	:: gives(m, 3)
	:: receives(m, 3)
#endif
	:: deletes(m)
#ifdef RESTORE
	:: d_step { m == victim && taken == 0 -> taken = 1;
		s_share = share[m]; s_seen = seen[m]; s_join = join[m]; s_con = con[m]; s_give = give[m]; s_cert = cert[m]; s_head = head[m] }
	:: d_step { m == victim && taken == 1 -> taken = 2;
		share[m] = s_share; seen[m] = s_seen; join[m] = s_join; con[m] = s_con; give[m] = s_give; cert[m] = s_cert; head[m] = s_head;
		s_share = 0; s_seen = 0; s_join = 0; s_con = 0; s_give = 0; s_cert = 0; s_head = 0 }
	:: d_step { m == victim && taken == 2 && HAS(com[head[m]], m) && !HAS(share[m], head[m]) && COPY(m, head[m]) -> write(m, head[m]) }
#endif
#ifdef WIPES
	:: d_step { wiped < WIPES -> wiped++; share[m] = HAS(com[0], m); seen[m] = 1; join[m] = 0; con[m] = 0; give[m] = 0; cert[m] = 1; head[m] = 0 }
#ifndef LOST_COPIES
	:: d_step { wiped < WIPES -> wiped++; share[m] = 0; seen[m] = 1; join[m] = 0; con[m] = 0; give[m] = 0; cert[m] = 1; head[m] = 0 }
#endif
#endif
	od
}

#ifdef WIPES
proctype Server() {
	do
	:: d_step { redis == 0 -> redis = 1;
		i = 0;
		do
		:: i == N -> break
		:: else -> copy[i] = HAS(com[0], i); i++
		od; i = 0 }
	:: d_step { HAS(ok, 1) && (!KEEP_COPIES || ((!HAS(com[1], 0) || HAS(copy[0], 1)) && (!HAS(com[1], 1) || HAS(copy[1], 1)) && (!HAS(com[1], 2) || HAS(copy[2], 1)) && (N < 4 || !HAS(com[1], 3 % N) || HAS(copy[3 % N], 1))))
		->
		i = 0;
		do
		:: i == N -> break
		:: else -> copy[i] = copy[i] & 254; i++
		od; i = 0 }
	od
}
#endif

/* choose sets an attempt's committee, parent and number. */
inline choose(e) {
	if
#if TABLE == 0 /* any two honest members of four, but for their names, or a rogue committee */
	:: com[e] = 3
	:: com[e] = 5
	:: com[e] = 12
	:: com[e] = 0
	:: e > 1 && com[1] != 3 -> com[e] = 6
	:: e > 1 && com[1] != 3 -> com[e] = 9
	:: e > 1 && com[1] != 3 -> com[e] = 10
#elif TABLE == 1 /* the same committee */
	:: com[e] = com[0]
#elif TABLE == 2 /* refresh, replace, disjoint */
	:: com[e] = 3
	:: com[e] = 5
	:: com[e] = 12
#elif TABLE == 5 /* one replaced */
	:: com[e] = 5
#elif TABLE == 4 /* without malicious members: committees of two, apart, or of three */
	:: com[e] = 3
	:: com[e] = 12
	:: com[e] = 7
#elif TABLE == 3 /* three honest members in each: the same, others, one replaced */
	:: com[e] = 7
	:: com[e] = 56
	:: com[e] = 14
#endif
	fi;
	if
	:: par[e] = 0
	:: e > 1 -> par[e] = 1
#if K > 2
	:: e > 2 -> par[e] = 2
#endif
	fi;
	if
	:: num[e] = num[e - 1] + 1
	:: e > 1 && par[e] < e - 1 && num[par[e]] < num[e - 1] && com[e] != 0 -> num[e] = num[e - 1]
	fi;
	chain[e] = chain[par[e]] | BIT(e)
}

init {
	atomic {
#if TABLE == 3
		com[0] = 7;
#elif F == 0
		com[0] = 7;
#else
		com[0] = 3;
#endif
		num[0] = 1; chain[0] = 1;
		choose(1);
#if K > 1
		choose(2);
#endif
#if K > 2
		choose(3);
#endif
		/* a rogue committee's child is rogue, and no honest committee follows it */
		(com[1] != 0 || K < 2 || par[2 % E] != 1 || com[2 % E] == 0);
		all = com[0] | com[1];
#if K > 1
		all = all | com[2];
#endif
#if K > 2
		all = all | com[3];
#endif
		i = 0;
		do
		:: i == N -> break
		:: else -> share[i] = HAS(com[0], i); seen[i] = 1; cert[i] = 1;
#ifdef WIPES
			copy[i] = HAS(com[0], i);
#endif
			i++
		od;
		certified();
#ifdef RESTORE
		if
		:: victim = 0
		:: victim = 2
		fi;
#endif
#ifdef WIPES
		run Server();
#endif
		run Monitor();
		run Member(0); run Member(1); run Member(2);
#if N > 3
		run Member(3);
#endif
#if N > 4
		run Member(4);
#endif
#if N > 5
		run Member(5);
#endif
	}
}
