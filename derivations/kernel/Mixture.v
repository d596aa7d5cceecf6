(* Proposition 3: the gradient in the image, for the mixture of the source and the reverse KL. *)
From mathcomp Require Import all_ssreflect.
From Coq Require Import Reals Lra FunctionalExtensionality.
From Coquelicot Require Import Coquelicot.
Require Import Definitions Sums Softmax Divergences Score.
Set Implicit Arguments.
Unset Strict Implicit.
Local Open Scope R_scope.

Section Paths.

Variable class : finType.
Variables (f : class -> R -> R) (v : class -> R) (x : R).
Hypothesis moves : forall i, is_derive (f i) x (v i).

Lemma tempered_path tau_joint tau_marginal y :
  is_derive (fun u => tempered tau_joint tau_marginal (fun i => f i u) y) x
    (tau_joint * v y - tau_marginal * sum (fun k => softmax (fun i => tau_marginal * f i x) k * v k)).
Proof.
apply: derive_sub; first exact: derive_scale.
have inside : is_derive (fun u => sum (fun j => exp (tau_marginal * f j u))) x
    (sum (fun j => tau_marginal * v j * exp (tau_marginal * f j x))).
  by apply: derive_sum => j; apply: derive_exp; apply: derive_scale.
have pos := total_positive (fun j => tau_marginal * f j x) y.
apply: (derive_value (derive_ln (g := fun u => sum (fun j => exp (tau_marginal * f j u))) pos inside)).
rewrite -sum_scale -sum_scale_right; apply: sum_ext => k; rewrite /softmax.
by field; lra.
Qed.

Lemma score_path tau_joint tau_marginal alpha phi slope q y :
  positive q -> (forall t, 0 < t -> is_derive phi t (slope t)) ->
  is_derive (fun u => score tau_joint tau_marginal alpha phi q (fun i => f i u) y) x
    (tau_joint * v y - tau_marginal * sum (fun k => softmax (fun i => tau_marginal * f i x) k * v k)
     - alpha * sum (fun i => weight slope q (softmax (fun i => f i x)) i
                             * (v i - sum (fun j => softmax (fun i => f i x) j * v j)))).
Proof.
move=> qpos dphi; apply: derive_sub; first exact: tempered_path.
by apply: derive_scale; apply: proposition_2_path.
Qed.

End Paths.

Lemma rkl_derivative t : 0 < t -> is_derive rkl t (rkl_slope t).
Proof. by move=> pos; apply: (derive_value (is_derive_opp _ _ _ (is_derive_ln t pos))). Qed.

Lemma fkl_derivative t : 0 < t -> is_derive fkl t (fkl_slope t).
Proof.
move=> pos; rewrite /fkl; auto_derive; first by [].
by rewrite /fkl_slope; field; lra.
Qed.

Lemma js_derivative t : 0 < t -> is_derive js t (js_slope t).
Proof.
move=> pos; rewrite /js; auto_derive; first by lra.
rewrite /js_slope /Rdiv !ln_mult; try lra; last by apply: Rinv_0_lt_compat; lra.
by rewrite !ln_Rinv; try lra; field; lra.
Qed.

Section Mixture.

Variables class axis : finType.
Implicit Types (mean : class -> axis -> R) (x : axis -> R) (a : axis).

Lemma derive_mixture_logit mean x k a :
  is_derive (fun u => mixture_logit mean (with_logit x a u) k) (x a) (mean k a - x a).
Proof.
have each b : is_derive (fun u => (with_logit x a u b - mean k b) ^ 2) (x a)
    (2 * (x b - mean k b) * indicator (b == a)).
  rewrite /with_logit /indicator; case: (b == a) / eqP => [->|off]; first by auto_derive; [|ring].
  by apply: (derive_value (is_derive_const _ _)); rewrite /zero /=; ring.
have scaled u : - / 2 * sum (fun b => (with_logit x a u b - mean k b) ^ 2) = mixture_logit mean (with_logit x a u) k.
  by rewrite /mixture_logit; field.
apply: (is_derive_ext _ _ _ _ scaled).
apply: (derive_value (derive_scale (- / 2) (derive_sum each))).
rewrite (sum_indicator (fun b => 2 * (x b - mean k b)) a).
by field.
Qed.

Lemma smoothed_target_positive epsilon (y : class) : 0 <= epsilon < 1 -> positive (smoothed_target epsilon y).
Proof.
move=> eps i; have npos := number_positive y; rewrite /smoothed_target /indicator.
have : 0 < (1 - epsilon) / number class by apply: Rdiv_lt_0_compat; lra.
by case: (i == y); lra.
Qed.

Lemma proposition_3 tau_joint tau_marginal alpha epsilon mean x (y : class) a : 0 <= epsilon < 1 ->
  is_derive (fun u => score tau_joint tau_marginal alpha rkl (smoothed_target epsilon y)
                        (mixture_logit mean (with_logit x a u)) y) (x a)
    ((tau_joint + alpha * (epsilon + (1 - epsilon) / number class)) * (mean y a - x a)
     + alpha * (1 - epsilon) / number class * (sum (fun k => (mean k a - x a) * indicator (k != y)))
     - tau_marginal * (sum (fun k => softmax (fun i => tau_marginal * mixture_logit mean x i) k * (mean k a - x a)))
     - alpha * (sum (fun k => softmax (mixture_logit mean x) k * (mean k a - x a)))).
Proof.
move=> eps; have qpos := smoothed_target_positive y eps; have npos := number_positive y.
have moves k := derive_mixture_logit mean x k a.
apply: (derive_value (score_path moves tau_joint tau_marginal alpha y qpos rkl_derivative)).
have same : (fun i => mixture_logit mean (with_logit x a (x a)) i) = mixture_logit mean x.
  by apply: functional_extensionality => i; rewrite with_same_logit.
have tempered_same : (fun i => tau_marginal * mixture_logit mean (with_logit x a (x a)) i) =
    (fun i => tau_marginal * mixture_logit mean x i).
  by apply: functional_extensionality => i; rewrite with_same_logit.
rewrite same tempered_same.
set p := softmax (mixture_logit mean x); set q := smoothed_target epsilon y.
set v := fun k => mean k a - x a; set m := sum (fun j => p j * (mean j a - x a)).
have w i : weight rkl_slope q p i * (mean i a - x a - m) = - (q i * v i) + m * q i.
  rewrite /weight /rkl_slope; have ppos : 0 < p i by apply: softmax_positive.
  by have := qpos i; rewrite -/q /v => ?; field; split; lra.
have qtot : sum q = 1 by have [] := smoothed_target_distribution y (conj (proj1 eps) (Rlt_le _ _ (proj2 eps))).
rewrite (sum_ext w) sum_add sum_opp sum_scale qtot.
have qv : sum (fun i => q i * v i) = (1 - epsilon) / number class * sum v + epsilon * v y.
  rewrite (sum_ext (G := fun i => (1 - epsilon) / number class * v i + epsilon * (v i * indicator (i == y)))) => [|i].
    by rewrite sum_add !sum_scale sum_indicator.
  by rewrite /q /smoothed_target; ring.
rewrite qv (sum_isolated v y) /v.
by field; lra.
Qed.

End Mixture.
