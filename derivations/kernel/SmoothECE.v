(* The Smooth ECE loss: its gradient in the confidence, its bounds, and where its expectation is least. *)
From mathcomp Require Import all_ssreflect.
From Coq Require Import Reals Lra.
From Coquelicot Require Import Coquelicot.
Require Import Definitions Sums Softmax.
Set Implicit Arguments.
Unset Strict Implicit.
Local Open Scope R_scope.

Section Loss.

Variable beta : R.
Hypothesis beta_positive : 0 < beta.

Lemma inside_positive r : 0 < r ^ 2 + beta.
Proof. by have := pow2_ge_0 r; lra. Qed.

Lemma error_positive r : 0 < smooth_error beta r.
Proof. by apply: sqrt_lt_R0; apply: inside_positive. Qed.

Lemma error_square r : smooth_error beta r * smooth_error beta r = r ^ 2 + beta.
Proof. by apply: sqrt_sqrt; apply: Rlt_le; apply: inside_positive. Qed.

Lemma error_gradient r : is_derive (smooth_error beta) r (r / smooth_error beta r).
Proof.
have inner : is_derive (fun u => u ^ 2 + beta) r (2 * r) by auto_derive; [|ring].
apply: (derive_value (is_derive_sqrt _ _ _ inner (inside_positive r))).
by rewrite -/(smooth_error beta r); have pos := error_positive r; field; lra.
Qed.

(* sqrt(r^2 + beta) lies between |r| and |r| + sqrt(beta). *)
Lemma error_bounds r : Rabs r <= smooth_error beta r <= Rabs r + sqrt beta.
Proof.
have pos := error_positive r; have square := error_square r.
have root := sqrt_lt_R0 _ beta_positive; have rs := sqrt_sqrt beta (Rlt_le _ _ beta_positive).
have a := Rabs_pos r; have aa : Rabs r * Rabs r = r ^ 2 by rewrite -Rabs_mult Rabs_pos_eq; [ring | nra].
by split; nra.
Qed.

(* r / sqrt(r^2 + beta) increases. *)
Lemma error_gradient_increases r s : r < s -> r / smooth_error beta r < s / smooth_error beta s.
Proof.
move=> less; have pr := error_positive r; have ps := error_positive s.
have sr := error_square r; have ss := error_square s.
apply: (Rmult_lt_reg_r (smooth_error beta r * smooth_error beta s)); first by apply: Rmult_lt_0_compat.
have -> : r / smooth_error beta r * (smooth_error beta r * smooth_error beta s) = r * smooth_error beta s by field; lra.
have -> : s / smooth_error beta s * (smooth_error beta r * smooth_error beta s) = s * smooth_error beta r by field; lra.
have left : (s * smooth_error beta r) ^ 2 = s ^ 2 * r ^ 2 + s ^ 2 * beta by rewrite -Rmult_plus_distr_l -sr; ring.
have right : (r * smooth_error beta s) ^ 2 = s ^ 2 * r ^ 2 + r ^ 2 * beta.
  have -> : s ^ 2 * r ^ 2 + r ^ 2 * beta = r ^ 2 * (s ^ 2 + beta) by ring.
  by rewrite -ss; ring.
case: (Rle_lt_dec 0 r) => sign; last first.
  case: (Rle_lt_dec 0 s) => other; first by nra.
  have squares : s ^ 2 * beta < r ^ 2 * beta by apply: Rmult_lt_compat_r => //; nra.
  have : s * smooth_error beta r < 0 by nra.
  have : r * smooth_error beta s < 0 by nra.
  by nra.
have squares : r ^ 2 * beta < s ^ 2 * beta by apply: Rmult_lt_compat_r => //; nra.
have : 0 < s * smooth_error beta r by nra.
have : 0 <= r * smooth_error beta s by nra.
by nra.
Qed.

Variable accuracy : R.
Hypothesis between : 1 / 2 < accuracy < 1.

Definition loss_slope (a : R) : R :=
  accuracy * ((a - 1) / smooth_error beta (a - 1)) + (1 - accuracy) * (a / smooth_error beta a).

Lemma loss_gradient a : is_derive (expected_loss beta accuracy) a (loss_slope a).
Proof.
rewrite /expected_loss; apply: derive_add; apply: derive_scale; last exact: error_gradient.
have shift : is_derive (fun u => u - 1) a 1 by auto_derive; [|ring].
apply: (derive_value (derive_inside (g := fun u => u - 1) (error_gradient (a - 1)) shift)).
by ring.
Qed.

Lemma loss_slope_increases a b : a < b -> loss_slope a < loss_slope b.
Proof.
move=> less; rewrite /loss_slope.
have h1 : (a - 1) / smooth_error beta (a - 1) < (b - 1) / smooth_error beta (b - 1).
  by apply: error_gradient_increases; lra.
by have h2 := error_gradient_increases less; nra.
Qed.

Lemma loss_slope_at_accuracy : loss_slope accuracy < 0.
Proof.
rewrite /loss_slope; set r := smooth_error beta (accuracy - 1); set s := smooth_error beta accuracy.
have pr : 0 < r by apply: error_positive. have ps : 0 < s by apply: error_positive.
have rs : r < s by apply: sqrt_lt_1; [apply: Rlt_le; apply: inside_positive | apply: Rlt_le; apply: inside_positive | nra].
have -> : accuracy * ((accuracy - 1) / r) + (1 - accuracy) * (accuracy / s) =
    accuracy * (1 - accuracy) * ((r - s) / (r * s)) by field; lra.
have inverse : 0 < / (r * s) by apply: Rinv_0_lt_compat; nra.
have neg : (r - s) / (r * s) < 0 by rewrite /Rdiv; nra.
have : 0 < accuracy * (1 - accuracy) by nra.
by nra.
Qed.

Lemma loss_slope_at_one : 0 < loss_slope 1.
Proof.
rewrite /loss_slope Rminus_eq_0; have p1 := error_positive 1; have ip := Rinv_0_lt_compat _ p1.
by rewrite /Rdiv Rmult_0_l; nra.
Qed.

(* One confidence is best, and it lies above the accuracy: the loss is not proper. *)
Lemma best_confidence : exists best, accuracy < best < 1 /\
  forall a, a <> best -> expected_loss beta accuracy best < expected_loss beta accuracy a.
Proof.
have each r : exists d, is_derive (fun u => u / smooth_error beta u) r d.
  eexists; apply: (is_derive_div (fun u => u) _ r _ _ (is_derive_id r) (error_gradient r)).
  by apply: Rgt_not_eq; apply: error_positive.
have smooth : continuity loss_slope.
  move=> a; apply/continuity_pt_filterlim; apply: ex_derive_continuous.
  have [d1 h1] := each (a - 1); have [d2 h2] := each a.
  have shift : is_derive (fun u => u - 1) a 1 by auto_derive; [|ring].
  exists (accuracy * (1 * d1) + (1 - accuracy) * d2).
  apply: derive_add; apply: derive_scale; last exact: h2.
  exact: (derive_inside (g := fun u => u - 1) h1 shift).
have less : accuracy < 1 by lra.
have [best [[low high] zero]] := IVT _ _ _ smooth less loss_slope_at_accuracy loss_slope_at_one.
have low' : accuracy < best.
  by case: (Rle_lt_or_eq_dec _ _ low) => // same; have := loss_slope_at_accuracy; rewrite same zero; lra.
have high' : best < 1.
  by case: (Rle_lt_or_eq_dec _ _ high) => // same; have := loss_slope_at_one; rewrite -same zero; lra.
exists best; split=> // a off.
have slopes c : derivable_pt_lim (expected_loss beta accuracy) c (loss_slope c).
  by apply/is_derive_Reals; apply: loss_gradient.
case: (Rtotal_order a best) => [below|[//|above]].
  have [c [e [_ cb]]] := MVT_cor2 _ _ _ _ below (fun c _ => slopes c).
  by have := loss_slope_increases cb; rewrite zero; nra.
have [c [e [bc _]]] := MVT_cor2 _ _ _ _ above (fun c _ => slopes c).
by have := loss_slope_increases bc; rewrite zero; nra.
Qed.

End Loss.
