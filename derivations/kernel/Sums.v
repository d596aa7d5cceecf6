(* Sums over the classes: algebra, order, derivatives and limits. *)
From mathcomp Require Import all_ssreflect.
From Coq Require Import Reals Lra.
From Coquelicot Require Import Coquelicot.
Require Import Definitions.
Set Implicit Arguments.
Unset Strict Implicit.
Local Open Scope R_scope.

Lemma addA : associative Rplus. Proof. by move=> a b c; rewrite Rplus_assoc. Qed.
Lemma mulA : associative Rmult. Proof. by move=> a b c; rewrite Rmult_assoc. Qed.
Canonical add_monoid := Monoid.Law addA Rplus_0_l Rplus_0_r.
Canonical add_comoid := Monoid.ComLaw Rplus_comm.
Canonical mul_monoid := Monoid.Law mulA Rmult_1_l Rmult_1_r.
Canonical mul_muloid := Monoid.MulLaw Rmult_0_l Rmult_0_r.
Canonical add_addoid := Monoid.AddLaw Rmult_plus_distr_r Rmult_plus_distr_l.

Section Sums.

Variable class : finType.
Implicit Types (F G : class -> R) (y : class).

Lemma sum_ext F G : (forall i, F i = G i) -> sum F = sum G.
Proof. by move=> same; apply: eq_bigr => i _. Qed.

Lemma sum_add F G : sum (fun i => F i + G i) = sum F + sum G.
Proof. exact: big_split. Qed.

Lemma sum_scale c F : sum (fun i => c * F i) = c * sum F.
Proof. by rewrite /sum big_distrr. Qed.

Lemma sum_scale_right c F : sum (fun i => F i * c) = sum F * c.
Proof. by rewrite /sum big_distrl. Qed.

Lemma sum_opp F : sum (fun i => - F i) = - sum F.
Proof.
rewrite (sum_ext (G := fun i => -1 * F i)); last by move=> i; ring.
by rewrite sum_scale; ring.
Qed.

Lemma sum_sub F G : sum (fun i => F i - G i) = sum F - sum G.
Proof. by rewrite /Rminus -sum_opp -sum_add. Qed.

Lemma sum_const c : sum (fun _ : class => c) = number class * c.
Proof.
rewrite /sum /number big_const; elim: #|class| => [|n IH] /=; first by ring.
by rewrite IH; case: n {IH} => [|n] /=; ring.
Qed.

Lemma sum_zero F : (forall i, F i = 0) -> sum F = 0.
Proof. by move=> zero; rewrite (sum_ext zero) sum_const; ring. Qed.

Lemma sum_le F G : (forall i, F i <= G i) -> sum F <= sum G.
Proof.
move=> le; rewrite /sum; elim/big_rec2: _ => [|i a b _ ab]; first by lra.
by have := le i; lra.
Qed.

Lemma sum_nonnegative F : (forall i, 0 <= F i) -> 0 <= sum F.
Proof. by move=> ge; rewrite -(sum_zero (F := fun _ => 0)) //; apply: sum_le. Qed.

Lemma sum_isolated F y : sum F = F y + sum (fun i => F i * indicator (i != y)).
Proof.
rewrite /sum (bigD1 y) //= [in RHS](bigD1 y) //= eqxx /=.
rewrite (eq_bigr (fun i => F i * indicator (i != y))); first by rewrite /indicator; ring.
by move=> i ->; rewrite /indicator; ring.
Qed.

Lemma sum_indicator F y : sum (fun i => F i * indicator (i == y)) = F y.
Proof.
rewrite (sum_isolated _ y) eqxx [X in _ + X]sum_zero => [|i]; first by rewrite /indicator; ring.
by case: (i == y); rewrite /indicator /=; ring.
Qed.

Lemma term_le_sum F y : (forall i, 0 <= F i) -> F y <= sum F.
Proof.
move=> ge; rewrite (sum_isolated F y).
suff: 0 <= sum (fun i => F i * indicator (i != y)) by lra.
apply: sum_nonnegative => i; have := ge i; rewrite /indicator; case: (i != y); lra.
Qed.

Lemma sum_positive F y : (forall i, 0 < F i) -> 0 < sum F.
Proof.
move=> gt; apply: (Rlt_le_trans _ (F y)); first exact: gt.
by apply: term_le_sum => i; apply: Rlt_le.
Qed.

(* Terms that are not negative and sum to 0 are all 0. *)
Lemma sum_zero_terms F y : (forall i, 0 <= F i) -> sum F = 0 -> F y = 0.
Proof. by move=> ge total; have := term_le_sum y ge; have := ge y; lra. Qed.

Lemma derive_sum (F : class -> R -> R) (d : class -> R) x :
  (forall i, is_derive (F i) x (d i)) -> is_derive (fun u => sum (fun i => F i u)) x (sum d).
Proof.
move=> each; rewrite /sum; elim: (index_enum class) => [|i r IH].
  rewrite big_nil; apply: (is_derive_ext (fun _ => 0)) => [u|]; first by rewrite big_nil.
  exact: is_derive_const.
rewrite big_cons; apply: (is_derive_ext (fun u => F i u + \big[Rplus/0]_(j <- r) F j u)) => [u|].
  by rewrite big_cons.
exact: is_derive_plus (each i) IH.
Qed.

Lemma limit_sum (point : Type) (filter : (point -> Prop) -> Prop) {proper : Filter filter}
    (F : class -> point -> R) (l : class -> R) :
  (forall i, filterlim (F i) filter (locally (l i))) ->
  filterlim (fun z => sum (fun i => F i z)) filter (locally (sum l)).
Proof.
move=> each; rewrite /sum; elim: (index_enum class) => [|i r IH].
  rewrite big_nil; apply: (filterlim_ext (fun _ => 0)) => [z|]; first by rewrite big_nil.
  exact: filterlim_const.
rewrite big_cons; apply: (filterlim_ext (fun z => F i z + \big[Rplus/0]_(j <- r) F j z)) => [z|].
  by rewrite big_cons.
apply: (filterlim_comp_2 (F i) _ Rplus (each i) IH).
exact: (filterlim_plus (K := R_AbsRing) (V := R_NormedModule) (l i) (\big[Rplus/0]_(j <- r) l j)).
Qed.

End Sums.
