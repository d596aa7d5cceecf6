(* The softmax, its derivative, and Proposition 2: the gradient of a divergence and of the score. *)
From mathcomp Require Import all_ssreflect.
From Coq Require Import Reals Lra FunctionalExtensionality.
From Coquelicot Require Import Coquelicot.
Require Import Definitions Sums.
Set Implicit Arguments.
Unset Strict Implicit.
Local Open Scope R_scope.

Lemma derive_value (f : R -> R) (x d e : R) : is_derive f x d -> d = e :> R -> is_derive f x e.
Proof. by move=> h <-. Qed.

Lemma derive_inside (f g : R -> R) (x d s : R) :
  is_derive f (g x) s -> is_derive g x d -> is_derive (fun u => f (g u)) x (d * s).
Proof. by move=> df dg; apply: (is_derive_comp f g x s d df dg). Qed.

Lemma derive_exp (g : R -> R) (x d : R) : is_derive g x d -> is_derive (fun u => exp (g u)) x (d * exp (g x)).
Proof. by apply: derive_inside; apply: is_derive_exp. Qed.

Lemma derive_ln (g : R -> R) (x d : R) : 0 < g x -> is_derive g x d -> is_derive (fun u => ln (g u)) x (d * / g x).
Proof. by move=> pos; apply: derive_inside; apply: is_derive_ln. Qed.

Lemma derive_scale (g : R -> R) (c x d : R) : is_derive g x d -> is_derive (fun u => c * g u) x (c * d).
Proof. exact: is_derive_scal. Qed.

Lemma derive_sub (f g : R -> R) (x d e : R) :
  is_derive f x d -> is_derive g x e -> is_derive (fun u => f u - g u) x (d - e).
Proof. exact: is_derive_minus. Qed.

Lemma derive_add (f g : R -> R) (x d e : R) :
  is_derive f x d -> is_derive g x e -> is_derive (fun u => f u + g u) x (d + e).
Proof. exact: is_derive_plus. Qed.

Lemma derive_mul (f g : R -> R) (x d e : R) :
  is_derive f x d -> is_derive g x e -> is_derive (fun u => f u * g u) x (d * g x + f x * e).
Proof. by move=> df dg; apply: (is_derive_mult f g x d e df dg Rmult_comm). Qed.

Section Softmax.

Variable class : finType.
Implicit Types (q p f v : class -> R) (k y : class) (phi slope : R -> R).

Lemma total_positive f y : 0 < sum (fun j => exp (f j)).
Proof. by apply: (sum_positive y) => i; apply: exp_pos. Qed.

Lemma softmax_positive f : positive (softmax f).
Proof. by move=> i; apply: Rdiv_lt_0_compat; [apply: exp_pos | apply: total_positive i]. Qed.

Lemma softmax_total f y : sum (softmax f) = 1.
Proof.
rewrite /softmax /Rdiv sum_scale_right Rinv_r //.
by apply: Rgt_not_eq; apply: (total_positive f y).
Qed.

Lemma softmax_shift f c : softmax (fun i => f i + c) = softmax f.
Proof.
apply: functional_extensionality => i; have pos := total_positive f i; have ec := exp_pos c.
rewrite /softmax (sum_ext (G := fun j => exp (f j) * exp c)) => [|j]; last by rewrite exp_plus.
by rewrite sum_scale_right exp_plus; field; lra.
Qed.

Lemma with_same_logit f k : with_logit f k (f k) = f.
Proof. by apply: functional_extensionality => i; rewrite /with_logit; case: eqP => [->|]. Qed.

Lemma derive_with_logit f k i x : is_derive (fun u => with_logit f k u i) x (indicator (i == k)).
Proof. by rewrite /with_logit; case: (i == k); [apply: is_derive_id | apply: is_derive_const]. Qed.

Lemma derive_softmax (f : class -> R -> R) v x k : (forall i, is_derive (f i) x (v i)) ->
  is_derive (fun u => softmax (fun i => f i u) k) x
    (softmax (fun i => f i x) k * (v k - sum (fun j => softmax (fun i => f i x) j * v j))).
Proof.
move=> df; rewrite /softmax; set S := sum (fun j => exp (f j x)).
have pos : 0 < S by apply: (total_positive (fun j => f j x) k).
have dS : is_derive (fun u => sum (fun j => exp (f j u))) x (sum (fun j => v j * exp (f j x))).
  by apply: derive_sum => j; apply: derive_exp.
apply: (derive_value (is_derive_div _ _ x _ _ (derive_exp (df k)) dS _)); first by apply: Rgt_not_eq.
rewrite (sum_ext (F := fun j => exp (f j x) / S * v j) (G := fun j => / S * (v j * exp (f j x)))).
  rewrite sum_scale -/S. by field; lra.
by move=> j; rewrite /Rdiv; ring.
Qed.

Lemma proposition_2_path (f : class -> R -> R) v q phi slope x :
  (forall i, is_derive (f i) x (v i)) -> positive q -> (forall t, 0 < t -> is_derive phi t (slope t)) ->
  is_derive (fun u => divergence phi q (softmax (fun i => f i u))) x
    (sum (fun i => weight slope q (softmax (fun i => f i x)) i
                   * (v i - sum (fun j => softmax (fun i => f i x) j * v j)))).
Proof.
move=> df qpos dphi; apply: derive_sum => i; set p := softmax (fun i => f i x).
have ppos : 0 < p i by apply: softmax_positive.
have ratio : 0 < p i / q i by apply: Rdiv_lt_0_compat; [| apply: qpos].
have dp := derive_softmax i df; rewrite -/p in dp.
have inner : is_derive (fun u => softmax (fun i => f i u) i / q i) x (/ q i * (p i * (v i - sum (fun j => p j * v j)))).
  by apply: (is_derive_ext (fun u => / q i * softmax (fun i => f i u) i)) => [u|];
     [rewrite /Rdiv Rmult_comm | apply: derive_scale].
apply: (derive_value (derive_scale (q i) (derive_inside (g := fun u => softmax (fun i => f i u) i / q i) (dphi _ ratio) inner))).
by rewrite /weight; have := qpos i; move=> ?; field; lra.
Qed.

Lemma proposition_2 q f phi slope k :
  positive q -> (forall t, 0 < t -> is_derive phi t (slope t)) ->
  is_derive (fun u => divergence phi q (softmax (with_logit f k u))) (f k) (force slope q (softmax f) k).
Proof.
move=> qpos dphi.
apply: (derive_value (proposition_2_path (fun i => derive_with_logit f k i (f k)) qpos dphi)).
rewrite -[fun i => with_logit f k (f k) i]/(with_logit f k (f k)) with_same_logit.
rewrite (sum_indicator (softmax f) k) /force.
under [LHS]sum_ext => i do rewrite Rmult_minus_distr_l.
by rewrite sum_sub sum_indicator sum_scale_right; ring.
Qed.

Lemma tempered_gradient tau_joint tau_marginal f y k :
  is_derive (fun u => tempered tau_joint tau_marginal (with_logit f k u) y) (f k)
    (tau_joint * indicator (y == k) - tau_marginal * softmax (fun i => tau_marginal * f i) k).
Proof.
have dl i := derive_with_logit f k i (f k).
apply: derive_sub; first exact: derive_scale.
have inside : is_derive (fun u => sum (fun j => exp (tau_marginal * with_logit f k u j))) (f k)
    (sum (fun j => tau_marginal * indicator (j == k) * exp (tau_marginal * with_logit f k (f k) j))).
  by apply: derive_sum => j; apply: derive_exp; apply: derive_scale.
have pos := total_positive (fun j => tau_marginal * with_logit f k (f k) j) k.
apply: (derive_value (derive_ln pos inside)).
rewrite with_same_logit /softmax.
rewrite (sum_ext (G := fun j => tau_marginal * exp (tau_marginal * f j) * indicator (j == k))) => [|j]; last by ring.
rewrite (sum_indicator (fun j => tau_marginal * exp (tau_marginal * f j)) k).
by rewrite with_same_logit in pos; field; lra.
Qed.

Lemma score_gradient tau_joint tau_marginal alpha phi slope q f y k :
  positive q -> (forall t, 0 < t -> is_derive phi t (slope t)) ->
  is_derive (fun u => score tau_joint tau_marginal alpha phi q (with_logit f k u) y) (f k)
    (tau_joint * indicator (y == k) - tau_marginal * softmax (fun i => tau_marginal * f i) k
     - alpha * force slope q (softmax f) k).
Proof.
move=> qpos dphi; apply: derive_sub; first exact: tempered_gradient.
by apply: derive_scale; apply: proposition_2.
Qed.

End Softmax.
